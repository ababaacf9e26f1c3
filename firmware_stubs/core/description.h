// What a board tells of itself, as a stream of bytes that the host reads in pieces (docs/firmware.md).
#pragma once

#include <stdint.h>

namespace mf {

enum DescriptionFlag : uint8_t { kOwnGraph = 1 };

// Up to `most` bytes from `offset` of the stream; returns how many there are.
uint8_t read_description(uint16_t offset, uint8_t flags, uint8_t start_problem, uint8_t *bytes, uint8_t most);

}  // namespace mf
