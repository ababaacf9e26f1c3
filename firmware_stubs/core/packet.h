// A typed value on a port.
#pragma once

#include "protocol.h"

namespace mf {

struct Packet {
    uint8_t type;
    uint32_t bits;  // the value as it stands on the wire; 0 where the type has none
};

inline Packet void_packet() { return Packet{kVoid, 0}; }
inline Packet integer_packet(int32_t value) { return Packet{kInteger, static_cast<uint32_t>(value)}; }
inline Packet boolean_packet(bool value) { return Packet{kBoolean, value ? 1u : 0u}; }

// What a component makes of any packet where it wants a whole number.
int32_t as_integer(const Packet &packet);

// What a component makes of any packet where it wants a truth: everything but zero and nothing is true.
bool as_boolean(const Packet &packet);

// From and to the type byte and four data bytes of a command. False for a type that can't be transferred.
bool unpack(uint8_t type, const uint8_t data[4], Packet *packet);
void pack(const Packet &packet, uint8_t data[4]);

}  // namespace mf
