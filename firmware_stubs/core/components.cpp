#include "components.h"

#include "behaviours.h"
#include "flash.h"

namespace mf {

bool find_shape(uint8_t component, Shape *shape) {
    for (uint8_t i = 0; i < kComponentCount; i++) {
        const uint8_t *entry = kComponentShapes[i];
        if (flash_byte(entry) != component) continue;
        *shape = Shape{flash_byte(entry + 1), flash_byte(entry + 2)};
        return true;
    }
    return false;
}

uint8_t inports(uint8_t component) {
    Shape shape;
    return find_shape(component, &shape) ? shape.inports : 0;
}

uint8_t state_words(uint8_t component) {
    switch (static_cast<ComponentId>(component)) {
        case kTimer:
            return words<TimerState>();
        case kAnalogRead:
        case kDigitalRead:
        case kDigitalWrite:
        case kPwmWrite:
        case kThermometer:
            return words<PinState>();
        case kToggleBoolean:
            return words<ToggleState>();
        case kCount:
            return words<CountState>();
        case kMapLinear:
            return words<RangeState>();
        case kHysteresisLatch:
            return words<LatchState>();
        case kGate:
            return words<GateState>();
        case kHoldPacket:
            return words<HoldState>();
        case kRoute:
            return words<RouteState>();
        case kBooleanAnd:
        case kBooleanOr:
        case kNumberEquals:
            return words<TwoState>();
        case kConstrain:
        case kMax:
        case kMin:
            return words<LimitState>();
        case kForward:
        case kSplit:
        case kInvertBoolean:
        case kBoolToInt:
            break;
    }
    return 0;
}

void start_component(Network &network, uint8_t node, uint8_t component) {
    if (component == kMapLinear) state_of<RangeState>(network, node) = RangeState{0, 1023, 0, 255};
    if (component == kConstrain) state_of<LimitState>(network, node) = LimitState{0, 1023};
    if (component == kMax || component == kMin) state_of<LimitState>(network, node) = LimitState{INT32_MIN, INT32_MAX};
    if (component == kRoute) state_of<RouteState>(network, node) = RouteState{1};
}

// No default here: a component that is added to components.json must be written here too, or it doesn't compile.
void receive(Network &network, uint8_t node, uint8_t component, uint8_t port, const Packet &packet, uint32_t now_ms) {
    switch (static_cast<ComponentId>(component)) {
        case kForward:
            return network.emit(node, Forward::out_out, packet);
        case kSplit:
            for (uint8_t out = Split::out_out1; out <= Split::out_out9; out++) network.emit(node, out, packet);
            return;
        case kInvertBoolean:
            return network.emit(node, InvertBoolean::out_out, boolean_packet(!as_boolean(packet)));
        case kBoolToInt:
            return network.emit(node, BoolToInt::out_out, integer_packet(as_boolean(packet)));
        case kToggleBoolean:
            return toggle(network, node, port);
        case kCount:
            return count(network, node, port);
        case kTimer:
            return timer(network, node, port, packet, now_ms);
        case kDigitalRead:
            return digital_read(network, node, port, packet);
        case kAnalogRead:
            return analog_read(network, node, port, packet);
        case kDigitalWrite:
            return digital_write(network, node, port, packet);
        case kPwmWrite:
            return pwm_write(network, node, port, packet);
        case kMapLinear:
            return map_linear(network, node, port, packet);
        case kHysteresisLatch:
            return hysteresis_latch(network, node, port, packet);
        case kGate:
            return gate(network, node, port, packet);
        case kHoldPacket:
            return hold_packet(network, node, port, packet);
        case kRoute:
            return route(network, node, port, packet);
        case kBooleanAnd:
        case kBooleanOr:
        case kNumberEquals:
            return of_two(network, node, component, port, packet);
        case kConstrain:
        case kMax:
        case kMin:
            return limit(network, node, component, port, packet);
        case kThermometer:
            return thermometer(network, node, port, packet, now_ms);
    }
}

bool timer_wait(const Network &network, uint8_t node, uint8_t component, uint32_t now_ms, uint32_t *wait_ms) {
    if (component != kTimer) return false;
    const TimerState &state = *static_cast<const TimerState *>(network.state(node));
    if (!state.interval_ms) return false;
    const int32_t wait = static_cast<int32_t>(state.due_ms - now_ms);  // right across the wrap of the clock
    *wait_ms = wait > 0 ? static_cast<uint32_t>(wait) : 0;
    return true;
}

void timer_due(Network &network, uint8_t node, uint32_t now_ms) {
    constexpr int32_t kCatchUpMs = 1000;  // a board that stood still longer doesn't make up for it
    TimerState &state = state_of<TimerState>(network, node);
    network.emit(node, Timer::out_out, void_packet());
    state.due_ms += state.interval_ms;
    if (static_cast<int32_t>(now_ms - state.due_ms) >= kCatchUpMs) state.due_ms = now_ms + state.interval_ms;
}

}  // namespace mf
