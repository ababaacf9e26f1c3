// The state of each component, and what it does with a packet.
#pragma once

#include "network.h"

namespace mf {

struct TimerState {
    uint32_t interval_ms;  // 0: off
    uint32_t due_ms;
};

struct PinState {
    int16_t pin_and_one;  // 0: not known yet
};

struct ToggleState {
    bool on;
};

struct CountState {
    uint32_t count;
};

struct RangeState {
    int32_t in_min, in_max, out_min, out_max;
};

struct LatchState {
    int32_t low, high;
    bool on;
};

struct GateState {
    bool open;
};

struct HoldState {
    Packet packet;
    bool held;
};

struct RouteState {
    uint8_t chosen;
};

struct TwoState {  // of components with inports a and b
    int32_t values[2];
    uint8_t known;  // a bit each
};

struct LimitState {  // of Constrain; Max and Min have one of the two
    int32_t lower, upper;
};

template <typename State>
constexpr uint8_t words() {
    return (sizeof(State) + sizeof(uint32_t) - 1) / sizeof(uint32_t);
}

template <typename State>
State &state_of(Network &network, uint8_t node) {
    static_assert(alignof(State) <= alignof(uint32_t), "state lies in words");
    return *static_cast<State *>(network.state(node));
}

void timer(Network &network, uint8_t node, uint8_t port, const Packet &packet, uint32_t now_ms);
void toggle(Network &network, uint8_t node, uint8_t port);
void count(Network &network, uint8_t node, uint8_t port);
void gate(Network &network, uint8_t node, uint8_t port, const Packet &packet);
void hold_packet(Network &network, uint8_t node, uint8_t port, const Packet &packet);
void route(Network &network, uint8_t node, uint8_t port, const Packet &packet);

void map_linear(Network &network, uint8_t node, uint8_t port, const Packet &packet);
void hysteresis_latch(Network &network, uint8_t node, uint8_t port, const Packet &packet);
void limit(Network &network, uint8_t node, uint8_t component, uint8_t port, const Packet &packet);
void of_two(Network &network, uint8_t node, uint8_t component, uint8_t port, const Packet &packet);

void analog_read(Network &network, uint8_t node, uint8_t port, const Packet &packet);
void digital_read(Network &network, uint8_t node, uint8_t port, const Packet &packet);
void digital_write(Network &network, uint8_t node, uint8_t port, const Packet &packet);
void pwm_write(Network &network, uint8_t node, uint8_t port, const Packet &packet);
void thermometer(Network &network, uint8_t node, uint8_t port, const Packet &packet, uint32_t now_ms);

}  // namespace mf
