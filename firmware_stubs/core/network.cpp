#include "network.h"

#include <string.h>

#include "components.h"

namespace mf {

namespace {

constexpr uint8_t kLastSequence = 127;  // seven bits beside has-target
constexpr uint32_t kLongestRestMs = 1000;

}  // namespace

void Network::clear() {
    used_ = used_outports_ = used_words_ = 0;
    waiting_ = 0;
    overflowing_ = false;
}

Point Network::create(uint8_t component, uint8_t parent, uint8_t *node) {
    Shape shape;
    if (!find_shape(component, &shape)) return kAddNodeInvalidInstance;
    if (parent > used_ + 1) return kAddNodeInvalidParent;  // as stock: it has no meaning without subgraphs
    const uint8_t words = state_words(component);
    if (used_ == kNodes || kOutports - used_outports_ < shape.outports || kStateWords - used_words_ < words) {
        return kOutOfRoom;
    }
    *node = ++used_;
    nodes_[*node] = Node{component, used_outports_, used_words_};
    memset(&outports_[used_outports_], 0, shape.outports * sizeof(Outport));
    memset(&words_[used_words_], 0, words * sizeof(words_[0]));
    used_outports_ = static_cast<uint8_t>(used_outports_ + shape.outports);
    used_words_ = static_cast<uint8_t>(used_words_ + words);
    start_component(*this, *node, component);
    return kNoPoint;
}

const Outport *Network::outport(uint8_t node, uint8_t port) const {
    Shape shape;
    if (!exists(node) || !find_shape(nodes_[node].component, &shape) || port >= shape.outports) return nullptr;
    return &outports_[nodes_[node].first_outport + port];
}

Outport *Network::outport(uint8_t node, uint8_t port) {
    return const_cast<Outport *>(static_cast<const Network *>(this)->outport(node, port));
}

Point Network::connect(uint8_t source, uint8_t source_port, uint8_t target, uint8_t target_port) {
    if (!exists(source) || !exists(target)) return kNetworkConnectInvalidNodes;
    Outport *from = outport(source, source_port);
    if (!from || target_port >= inports(nodes_[target].component)) return kInvalidPort;
    from->target = target;
    from->target_port = target_port & 0x7f;
    return kNoPoint;
}

Point Network::disconnect(uint8_t source, uint8_t source_port, uint8_t target, uint8_t target_port) {
    if (!exists(source) || !exists(target)) return kNetworkConnectInvalidNodes;
    Outport *from = outport(source, source_port);
    if (!from) return kInvalidPort;
    // Stock firmware takes away whatever edge is there. An edge that isn't there is no error, another one is.
    if (from->target && (from->target != target || from->target_port != target_port)) return kNetworkConnectInvalidNodes;
    *from = Outport{0, 0, 0};
    return kNoPoint;
}

Point Network::subscribe(uint8_t node, uint8_t port, bool enable) {
    if (!exists(node)) return kSubscribePortInvalidNode;
    Outport *from = outport(node, port);
    if (!from) return kSubscribePortInvalidPort;
    from->subscribed = enable;
    return kNoPoint;
}

Point Network::push(uint8_t node, uint8_t port, const Packet &packet) {
    if (!exists(node)) return kSendMessageInvalidNode;
    if (port >= inports(nodes_[node].component)) return kInvalidPort;
    return enqueue(Message{packet, 0, 0, node, port, 0}) ? kNoPoint : kQueueFull;
}

Point Network::remove(uint8_t node) {
    if (!exists(node)) return kRemoveNodeInvalidInstance;
    nodes_[node].component = 0;
    for (uint8_t i = 0; i < used_outports_; i++) {
        if (outports_[i].target == node) outports_[i].target = 0;  // a packet to nobody would crash stock firmware
    }
    return kNoPoint;
}

bool Network::enqueue(const Message &message) {
    if (waiting_ == kMessages) return false;
    queue_[(head_ + waiting_) % kMessages] = message;
    waiting_++;
    return true;
}

void Network::emit(uint8_t node, uint8_t port, const Packet &packet) {
    const Outport *from = outport(node, port);
    if (!from) return;
    Message message = {packet, node, port, from->target, from->target_port, 0};
    if (from->subscribed) {  // numbered before it can be lost, so that the host sees the gap
        sequence_ = sequence_ == kLastSequence ? 1 : static_cast<uint8_t>(sequence_ + 1);
        message.sequence = sequence_;
        reported_++;
    } else if (!message.target) {
        return;
    }
    if (enqueue(message)) return;
    lost_++;
    if (!overflowing_) voice_.debug(kLevelError, kQueueFull);  // once an episode
    overflowing_ = true;
}

void Network::deliver(const Message &message, uint32_t now_ms) {
    if (message.sequence) {
        const Outport *from = outport(message.source, message.source_port);
        if (from && from->subscribed) voice_.packet_sent(message);
    }
    if (exists(message.target)) {
        receive(*this, message.target, nodes_[message.target].component, message.target_port, message.packet, now_ms);
    }
}

void Network::tick(uint32_t now_ms) {
    if (!running) return;
    for (uint8_t left = waiting_; left; left--) {
        if (queue_[head_].sequence && !voice_.may_report()) return;  // the host's credit is used up: stand still
        const Message message = queue_[head_];
        head_ = static_cast<uint8_t>((head_ + 1) % kMessages);
        waiting_--;
        deliver(message, now_ms);
    }
    overflowing_ = overflowing_ && waiting_ > kMessages / 2;
    for (uint8_t node = 1; node <= used_; node++) {
        uint32_t wait_ms;
        if (timer_wait(*this, node, nodes_[node].component, now_ms, &wait_ms) && wait_ms == 0) {
            timer_due(*this, node, now_ms);
        }
    }
}

bool Network::at_rest(uint32_t now_ms, uint32_t *wait_ms) const {
    *wait_ms = kLongestRestMs;
    if (!running) return true;
    if (waiting_) return queue_[head_].sequence && !voice_.may_report();
    for (uint8_t node = 1; node <= used_; node++) {
        uint32_t wait;
        if (timer_wait(*this, node, nodes_[node].component, now_ms, &wait) && wait < *wait_ms) {
            *wait_ms = wait;
        }
    }
    return *wait_ms != 0;
}

}  // namespace mf
