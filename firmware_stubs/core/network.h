// Nodes, edges, and the packets on their way.
//
// All memory is here from the start. A node takes outports and state from two pools by counting up, and gives them back
// when all nodes are cleared: nothing is freed one by one, so nothing can be fragmented.
#pragma once

#include "generated.h"
#include "packet.h"
#include "voice.h"

namespace mf {

struct Node {
    uint8_t component;  // 0: removed
    uint8_t first_outport;
    uint8_t first_word;
};

struct Outport {
    uint8_t target;  // 0: none
    uint8_t target_port : 7;
    uint8_t subscribed : 1;
};

class Network {
  public:
    explicit Network(Voice &voice) : voice_(voice) {}

    bool running = false;

    void clear();

    // Each does it, or says at which point it is wrong; nothing is changed then.
    Point create(uint8_t component, uint8_t parent, uint8_t *node);
    Point connect(uint8_t source, uint8_t source_port, uint8_t target, uint8_t target_port);
    Point disconnect(uint8_t source, uint8_t source_port, uint8_t target, uint8_t target_port);
    Point subscribe(uint8_t node, uint8_t port, bool enable);
    Point push(uint8_t node, uint8_t port, const Packet &packet);
    Point remove(uint8_t node);
    bool exists(uint8_t node) const { return node >= 1 && node <= used_ && nodes_[node].component != 0; }

    // One turn: what was queued before it, then the timers. What that sends waits for the next turn.
    void tick(uint32_t now_ms);

    // Whether a turn has nothing to do now; then *wait_ms is how long until a timer is due, at most.
    bool at_rest(uint32_t now_ms, uint32_t *wait_ms) const;

    // For components.
    void emit(uint8_t node, uint8_t port, const Packet &packet);
    void *state(uint8_t node) { return &words_[nodes_[node].first_word]; }
    const void *state(uint8_t node) const { return &words_[nodes_[node].first_word]; }
    void debug(Level level, Point point) { voice_.debug(level, point); }

    uint32_t reported() const { return reported_; }  // packets of subscribed outports since the start
    uint16_t lost() const { return lost_; }          // packets that found the queue full, since the start
    uint8_t room() const { return static_cast<uint8_t>(kMessages - waiting_); }  // for how many more packets

  private:
    bool enqueue(const Message &message);
    void deliver(const Message &message, uint32_t now_ms);
    const Outport *outport(uint8_t node, uint8_t port) const;
    Outport *outport(uint8_t node, uint8_t port);

    Voice &voice_;
    Node nodes_[kNodes + 1] = {};  // by id; 0 is nobody's
    Outport outports_[kOutports] = {};
    uint32_t words_[kStateWords] = {};
    Message queue_[kMessages] = {};
    uint8_t used_ = 0;
    uint8_t used_outports_ = 0;
    uint8_t used_words_ = 0;
    uint8_t head_ = 0;
    uint8_t waiting_ = 0;
    uint8_t sequence_ = 0;
    bool overflowing_ = false;
    uint16_t lost_ = 0;
    uint32_t reported_ = 0;
};

}  // namespace mf
