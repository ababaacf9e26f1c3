// Components that work on one pin. Until they know it they do nothing.
#include "backend.h"
#include "behaviours.h"

namespace mf {

namespace {

void set_pin(Network &network, uint8_t node, const Packet &packet, backend::PinUse use) {
    const int32_t pin = as_integer(packet);
    const bool usable = backend::pin_usable(pin, use);
    state_of<PinState>(network, node).pin_and_one = usable ? static_cast<int16_t>(pin + 1) : 0;
    if (!usable) network.debug(kLevelError, kIoFailure);
}

// The pin of a node, or false while it isn't known.
bool has_pin(Network &network, uint8_t node, uint8_t *pin) {
    const int16_t known = state_of<PinState>(network, node).pin_and_one;
    *pin = static_cast<uint8_t>(known - 1);
    return known != 0;
}

}  // namespace

void analog_read(Network &network, uint8_t node, uint8_t port, const Packet &packet) {
    uint8_t pin;
    if (port == AnalogRead::in_pin) {
        set_pin(network, node, packet, backend::kAnalogIn);
    } else if (has_pin(network, node, &pin)) {
        network.emit(node, AnalogRead::out_out, integer_packet(backend::analog_read(pin)));
    }
}

void thermometer(Network &network, uint8_t node, uint8_t port, const Packet &packet, uint32_t now_ms) {
    uint8_t pin;
    if (port == Thermometer::in_pin) {
        set_pin(network, node, packet, backend::kThermometer);
    } else if (has_pin(network, node, &pin)) {
        network.emit(node, Thermometer::out_out, integer_packet(backend::temperature(pin, now_ms)));
    }
}

void digital_read(Network &network, uint8_t node, uint8_t port, const Packet &packet) {
    uint8_t pin;
    if (port == DigitalRead::in_pin) {
        set_pin(network, node, packet, backend::kDigitalIn);
    } else if (!has_pin(network, node, &pin)) {
        return;
    } else if (port == DigitalRead::in_pullup) {
        backend::pull_up(pin, as_boolean(packet));
    } else {
        network.emit(node, DigitalRead::out_out, boolean_packet(backend::digital_read(pin)));
    }
}

void digital_write(Network &network, uint8_t node, uint8_t port, const Packet &packet) {
    uint8_t pin;
    if (port == DigitalWrite::in_pin) {
        set_pin(network, node, packet, backend::kDigitalOut);
    } else if (has_pin(network, node, &pin)) {
        const bool on = as_boolean(packet);
        backend::digital_write(pin, on);
        network.emit(node, DigitalWrite::out_out, boolean_packet(on));
    }
}

void pwm_write(Network &network, uint8_t node, uint8_t port, const Packet &packet) {
    uint8_t pin;
    if (port == PwmWrite::in_pin) {
        set_pin(network, node, packet, backend::kPwmOut);
    } else if (has_pin(network, node, &pin)) {
        const int32_t percent = as_integer(packet);
        backend::pwm_write(pin, static_cast<uint8_t>(percent < 0 ? 0 : percent > 100 ? 100 : percent));
        network.emit(node, PwmWrite::out_out, packet);
    }
}

}  // namespace mf
