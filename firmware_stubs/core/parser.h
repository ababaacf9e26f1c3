// Bytes from the host -> openings and commands.
//
// Stock firmware loses an opening behind a stray byte, and never finds back to a command's first byte by itself. Here
// an opening counts wherever it stands in the stream, and the rest of a command that doesn't come is not waited for.
#pragma once

#include "protocol.h"

namespace mf {

// Silence in the middle of a command after which the rest of it isn't coming.
constexpr uint16_t kPartialCommandMs = 250;

enum class Parsed : uint8_t { kNothing, kOpening, kCommand, kOtherMagic, kDamaged };

class Parser {
  public:
    // One byte. With kOpening, request_id() is its id; with kCommand, command() is whole.
    Parsed feed(uint8_t byte, uint32_t now_ms);

    // True once when half a command was given up. Only to be asked when no byte is waiting to be fed.
    bool gave_up(uint32_t now_ms);

    // The host said End: only an opening counts now.
    void close();

    // From the next byte on commands have a checksum behind them, or not. An opening never has one. After one that is
    // wrong nothing but an opening counts: what follows may be out of step.
    void check(bool on) { checked_ = on; }

    bool is_open() const { return open_; }
    uint32_t last_ms() const { return last_ms_; }  // when the last byte came
    uint8_t request_id() const { return buffer_[0]; }
    const uint8_t *command() const { return buffer_; }

  private:
    Parsed match_magic(uint8_t byte);

    uint8_t buffer_[kCheckedSize] = {};
    uint8_t count_ = 0;
    uint8_t matched_ = 0;
    uint8_t sum_ = 0;  // of what is in the buffer: made while the bytes come, so that the answer need not wait for it
    bool open_ = false;
    bool checked_ = false;
    uint32_t last_ms_ = 0;
};

}  // namespace mf
