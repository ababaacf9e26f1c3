#include "voice.h"

#include <string.h>

#include "backend.h"

namespace mf {

namespace {

constexpr uint8_t kEventId = 0;  // the request id of what nobody asked for

}  // namespace

void Voice::answer(uint8_t request_id, uint8_t command, const uint8_t *arguments, uint8_t count) {
    if (silent) return;
    uint8_t bytes[kCommandSize] = {request_id, command};
    if (count) memcpy(bytes + 2, arguments, count < kArguments ? count : kArguments);
    backend::send(bytes, kCommandSize);
    if (!(extensions & kChecksums)) return;
    const uint8_t sum = command_checksum(bytes);  // while the first bytes are on their way
    backend::send(&sum, 1);
}

void Voice::debug(uint8_t message_level, uint8_t point) {
    if (message_level > level) return;
    const uint8_t arguments[] = {message_level, point};
    answer(kEventId, kDebugMessage, arguments, sizeof arguments);
}

void Voice::packet_sent(const Message &message) {
    uint8_t arguments[kArguments] = {message.source, message.source_port, message.target != 0, message.packet.type};
    if (extensions & kSequenceNumbers) arguments[2] = static_cast<uint8_t>(arguments[2] | message.sequence << 1);
    if ((extensions & kEventCredit) && credit) credit--;
    pack(message.packet, arguments + 4);
    answer(kEventId, kPacketSent, arguments, sizeof arguments);
}

}  // namespace mf
