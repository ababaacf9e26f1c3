#include "parser.h"

namespace mf {

Parsed Parser::feed(uint8_t byte, uint32_t now_ms) {
    last_ms_ = now_ms;
    if (matched_ == kMagicSize) {  // the byte behind the magic is the request id, whatever it is
        matched_ = 0;
        count_ = 0;
        open_ = true;
        checked_ = false;
        buffer_[0] = byte;
        return Parsed::kOpening;
    }
    const Parsed other = match_magic(byte);
    if (!open_) return other;
    if (checked_ && count_ < kCommandSize) sum_ = checksum_with(count_ ? sum_ : kEmptyChecksum, byte);
    buffer_[count_++] = byte;
    if (count_ < (checked_ ? kCheckedSize : kCommandSize)) return Parsed::kNothing;
    count_ = 0;
    if (!checked_ || buffer_[kCommandSize] == sum_) return Parsed::kCommand;
    open_ = false;
    return Parsed::kDamaged;
}

// The magic's first letter stands in it only once, so a mismatch can only start anew at the byte it happened at.
Parsed Parser::match_magic(uint8_t byte) {
    if (byte == static_cast<uint8_t>(kMagic[matched_])) {
        matched_++;
        return Parsed::kNothing;
    }
    const bool other_generation = matched_ == kMagicSize - 1;
    matched_ = byte == static_cast<uint8_t>(kMagic[0]) ? 1 : 0;
    return other_generation ? Parsed::kOtherMagic : Parsed::kNothing;
}

bool Parser::gave_up(uint32_t now_ms) {
    if ((count_ == 0 && matched_ == 0) || now_ms - last_ms_ < kPartialCommandMs) return false;
    const bool half_a_command = count_ != 0;
    count_ = 0;
    matched_ = 0;
    return half_a_command;
}

// What was matched stays: an End that stray bytes made up may end within an opening.
void Parser::close() {
    open_ = false;
    count_ = 0;
}

}  // namespace mf
