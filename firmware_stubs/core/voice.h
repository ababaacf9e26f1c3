// Everything a board says to the host.
#pragma once

#include "packet.h"

namespace mf {

struct Message {
    Packet packet;
    uint8_t source;  // 0: the host
    uint8_t source_port;
    uint8_t target;  // 0: none, it is only reported
    uint8_t target_port;
    uint8_t sequence;
};

class Voice {
  public:
    uint8_t level = kLevelError;  // debug messages up to it are sent
    uint8_t extensions = 0;       // what this host asked for
    uint16_t credit = 0;          // packets that may still be reported, with kEventCredit
    bool host_is_silent = false;  // it has died, or stands still: nobody is waited for then
    bool silent = false;          // while the board obeys its own graph: those answers are for nobody

    // The answer to a request; arguments that are not given are zero.
    void answer(uint8_t request_id, uint8_t command, const uint8_t *arguments = nullptr, uint8_t count = 0);
    void debug(uint8_t message_level, uint8_t point);
    void packet_sent(const Message &message);

    // Whether a packet may be reported now.
    bool may_report() const { return !(extensions & kEventCredit) || credit || host_is_silent; }
};

}  // namespace mf
