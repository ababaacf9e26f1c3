#include "description.h"

#include "backend.h"
#include "flash.h"
#include "generated.h"

namespace mf {

namespace {

constexpr uint8_t kIdSize = 8;
constexpr uint8_t kHeaderSize = 2 + 2 + kIdSize + 2;  // size, checksum, id, flags, start problem

// In the image there are a marker, size and checksum before the document.
constexpr uint8_t kMarkerSize = 8;
constexpr uint8_t kDocumentAt = kMarkerSize + 4;
constexpr uint16_t kDocumentSize = kDescriptionBlockSize - kDocumentAt;

}  // namespace

uint8_t read_description(uint16_t offset, uint8_t flags, uint8_t start_problem, uint8_t *bytes, uint8_t most) {
    uint8_t header[kHeaderSize];
    for (uint8_t i = 0; i < 4; i++) header[i] = flash_byte(kDescriptionBlock + kMarkerSize + i);
    backend::unique_id(header + 4);
    header[kHeaderSize - 2] = flags;
    header[kHeaderSize - 1] = start_problem;
    uint8_t count = 0;
    for (uint32_t at = offset; count < most && at < kHeaderSize + static_cast<uint32_t>(kDocumentSize); at++) {
        bytes[count++] = at < kHeaderSize ? header[at] : flash_byte(kDescriptionBlock + kDocumentAt + (at - kHeaderSize));
    }
    return count;
}

}  // namespace mf
