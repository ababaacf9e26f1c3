// Components that make a value of a value.
#include "behaviours.h"

namespace mf {

namespace {

int32_t clamped(bool negative, uint64_t magnitude) {
    if (negative) return magnitude > 2147483648u ? INT32_MIN : static_cast<int32_t>(-static_cast<int64_t>(magnitude));
    return magnitude > 2147483647u ? INT32_MAX : static_cast<int32_t>(magnitude);
}

// Linear from one range to another in whole numbers, rounded down, held to 32 bits. The product of two 33-bit
// differences fits into 64 bits only without a sign, so signs go beside it.
int32_t mapped(int32_t value, const RangeState &range) {
    if (range.in_max == range.in_min) return range.out_min;
    const int64_t offset = static_cast<int64_t>(value) - range.in_min;
    const int64_t span = static_cast<int64_t>(range.out_max) - range.out_min;
    const int64_t divisor = static_cast<int64_t>(range.in_max) - range.in_min;
    const bool negative = ((offset < 0) != (span < 0)) != (divisor < 0);
    const uint64_t product =
        static_cast<uint64_t>(offset < 0 ? -offset : offset) * static_cast<uint64_t>(span < 0 ? -span : span);
    const uint64_t by = static_cast<uint64_t>(divisor < 0 ? -divisor : divisor);
    uint64_t quotient = product / by;
    if (negative && product % by) quotient++;
    const uint64_t far = static_cast<uint64_t>(1) << 33;  // beyond it out_min doesn't bring it back into 32 bits
    if (quotient > far) return clamped(negative, quotient);
    const int64_t result = (negative ? -static_cast<int64_t>(quotient) : static_cast<int64_t>(quotient)) + range.out_min;
    return clamped(result < 0, static_cast<uint64_t>(result < 0 ? -result : result));
}

}  // namespace

void map_linear(Network &network, uint8_t node, uint8_t port, const Packet &packet) {
    RangeState &range = state_of<RangeState>(network, node);
    const int32_t value = as_integer(packet);
    switch (port) {
        case MapLinear::in_inmin:
            range.in_min = value;
            break;
        case MapLinear::in_inmax:
            range.in_max = value;
            break;
        case MapLinear::in_outmin:
            range.out_min = value;
            break;
        case MapLinear::in_outmax:
            range.out_max = value;
            break;
        default:
            network.emit(node, MapLinear::out_out, integer_packet(mapped(value, range)));
    }
}

void hysteresis_latch(Network &network, uint8_t node, uint8_t port, const Packet &packet) {
    LatchState &latch = state_of<LatchState>(network, node);
    const int32_t value = as_integer(packet);
    if (port == HysteresisLatch::in_lowthreshold) {
        latch.low = value;
    } else if (port == HysteresisLatch::in_highthreshold) {
        latch.high = value;
    } else {
        if (value >= latch.high) {
            latch.on = true;
        } else if (value <= latch.low) {
            latch.on = false;
        }
        network.emit(node, HysteresisLatch::out_out, boolean_packet(latch.on));
    }
}

void limit(Network &network, uint8_t node, uint8_t component, uint8_t port, const Packet &packet) {
    LimitState &limits = state_of<LimitState>(network, node);
    int32_t value = as_integer(packet);
    if (component == kMax ? port == Max::in_threshold : component == kConstrain && port == Constrain::in_upper) {
        limits.upper = value;
    } else if (component == kMin ? port == Min::in_threshold : component == kConstrain && port == Constrain::in_lower) {
        limits.lower = value;
    } else {
        if (value > limits.upper) value = limits.upper;
        if (value < limits.lower) value = limits.lower;
        network.emit(node, Constrain::out_out, integer_packet(value));
    }
}

// Told anew when one of them comes and both are known.
void of_two(Network &network, uint8_t node, uint8_t component, uint8_t port, const Packet &packet) {
    TwoState &state = state_of<TwoState>(network, node);
    state.values[port & 1] = as_integer(packet);
    state.known = static_cast<uint8_t>(state.known | (1 << (port & 1)));
    if (state.known != 3) return;
    const int32_t a = state.values[0], b = state.values[1];
    const bool result = component == kBooleanAnd ? a && b : component == kBooleanOr ? a || b : a == b;
    network.emit(node, NumberEquals::out_out, boolean_packet(result));
}

}  // namespace mf
