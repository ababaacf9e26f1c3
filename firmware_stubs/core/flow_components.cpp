// Components that decide whether, when and where a packet goes.
#include "behaviours.h"

namespace mf {

void timer(Network &network, uint8_t node, uint8_t port, const Packet &packet, uint32_t now_ms) {
    TimerState &state = state_of<TimerState>(network, node);
    if (port == Timer::in_interval) {
        const int32_t interval = as_integer(packet);
        state.interval_ms = interval > 0 ? static_cast<uint32_t>(interval) : 0;
    }
    state.due_ms = now_ms + state.interval_ms;
}

void toggle(Network &network, uint8_t node, uint8_t port) {
    ToggleState &state = state_of<ToggleState>(network, node);
    state.on = port == ToggleBoolean::in_in && !state.on;
    network.emit(node, ToggleBoolean::out_out, boolean_packet(state.on));
}

void count(Network &network, uint8_t node, uint8_t port) {
    CountState &state = state_of<CountState>(network, node);
    state.count = port == Count::in_in ? (state.count < INT32_MAX ? state.count + 1 : state.count) : 0;
    network.emit(node, Count::out_out, integer_packet(static_cast<int32_t>(state.count)));
}

void gate(Network &network, uint8_t node, uint8_t port, const Packet &packet) {
    GateState &state = state_of<GateState>(network, node);
    if (port == Gate::in_enable) {
        state.open = as_boolean(packet);
    } else if (state.open) {
        network.emit(node, Gate::out_out, packet);
    }
}

void hold_packet(Network &network, uint8_t node, uint8_t port, const Packet &packet) {
    HoldState &state = state_of<HoldState>(network, node);
    if (port == HoldPacket::in_data) {
        state.packet = packet;
        state.held = true;
    } else if (state.held) {
        network.emit(node, HoldPacket::out_out, state.packet);
    }
}

// The inport whose number was named last passes; they are numbered as they are called, from in1.
void route(Network &network, uint8_t node, uint8_t port, const Packet &packet) {
    RouteState &state = state_of<RouteState>(network, node);
    if (port == Route::in_port) {
        const int32_t chosen = as_integer(packet);
        state.chosen = chosen >= Route::in_in1 && chosen <= Route::in_in9 ? static_cast<uint8_t>(chosen) : 0;
    } else if (port == state.chosen) {
        network.emit(node, Route::out_out, packet);
    }
}

}  // namespace mf
