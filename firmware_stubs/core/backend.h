// What the hardware under a board provides. Each backend defines these once; they are found by the linker, so that
// nothing is virtual and nothing costs memory.
#pragma once

#include <stdint.h>

namespace backend {

// Bytes to the host. Waits while there is no room: a board never drops what it said.
void send(const uint8_t *bytes, uint8_t count);

// Milliseconds since the start; wraps round after 49 days.
uint32_t millis();

enum PinUse : uint8_t { kDigitalIn, kDigitalOut, kAnalogIn, kPwmOut, kThermometer };

// Whether this pin can do that.
bool pin_usable(int32_t pin, PinUse use);

bool digital_read(uint8_t pin);
void pull_up(uint8_t pin, bool on);
void digital_write(uint8_t pin, bool on);
int32_t analog_read(uint8_t pin);                    // 0..1023
void pwm_write(uint8_t pin, uint8_t percent);        // 0..100
int32_t temperature(uint8_t pin, uint32_t now_ms);   // hundredths of a degree Celsius

// An input as the host wants it to be, in place of what the pin says; false where a board can't do that.
bool simulate_input(uint8_t pin, int32_t value);

// Eight bytes that no other board has, the same after every start.
void unique_id(uint8_t id[8]);

// Bytes or commands from the host that were lost before the parser saw them, since the start.
uint16_t lost_input();

}  // namespace backend
