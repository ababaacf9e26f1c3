#include "packet.h"

#include <string.h>

namespace mf {

namespace {

float as_float(uint32_t bits) {
    float value;
    static_assert(sizeof value == sizeof bits, "a float is IEEE 754 single");
    memcpy(&value, &bits, sizeof value);
    return value;
}

}  // namespace

int32_t as_integer(const Packet &packet) {
    if (packet.type != kFloat) return static_cast<int32_t>(packet.bits);
    const float value = as_float(packet.bits);
    if (!(value > -2147483648.0f)) return value < 0 ? INT32_MIN : 0;  // 0: not a number
    if (value >= 2147483648.0f) return INT32_MAX;
    return static_cast<int32_t>(value);
}

bool as_boolean(const Packet &packet) {
    return packet.type == kFloat ? as_float(packet.bits) != 0.0f : packet.bits != 0;
}

bool unpack(uint8_t type, const uint8_t data[4], Packet *packet) {
    packet->type = type;
    switch (type) {
        case kVoid:
        case kBracketStart:
        case kBracketEnd:
            packet->bits = 0;
            return true;
        case kBoolean:
            packet->bits = data[0] != 0;
            return true;
        case kByte:
        case kErrorPacket:
            packet->bits = data[0];
            return true;
        case kInteger:
        case kFloat:
            packet->bits = static_cast<uint32_t>(data[0]) | static_cast<uint32_t>(data[1]) << 8 |
                           static_cast<uint32_t>(data[2]) << 16 | static_cast<uint32_t>(data[3]) << 24;
            return true;
        default:
            return false;
    }
}

void pack(const Packet &packet, uint8_t data[4]) {
    for (uint8_t i = 0; i < 4; i++) data[i] = static_cast<uint8_t>(packet.bits >> (8 * i));
}

}  // namespace mf
