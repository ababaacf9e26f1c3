#include "bench_backend.h"

#include <string.h>

#include "backend.h"

namespace bench {

std::vector<uint8_t> said;
uint32_t now_ms = 0;
std::map<int, int32_t> inputs;
std::map<int, int32_t> outputs;

}  // namespace bench

namespace backend {

void send(const uint8_t *bytes, uint8_t count) { bench::said.insert(bench::said.end(), bytes, bytes + count); }
uint32_t millis() { return bench::now_ms; }
bool pin_usable(int32_t pin, PinUse) { return pin >= 0 && pin < 20; }
bool digital_read(uint8_t pin) { return bench::inputs[pin] != 0; }
void pull_up(uint8_t pin, bool on) { bench::inputs[pin] = on; }
void digital_write(uint8_t pin, bool on) { bench::outputs[pin] = on; }
int32_t analog_read(uint8_t pin) { return bench::inputs[pin]; }
void pwm_write(uint8_t pin, uint8_t percent) { bench::outputs[pin] = percent; }
int32_t temperature(uint8_t pin, uint32_t) { return bench::inputs[pin]; }
bool simulate_input(uint8_t pin, int32_t value) {
    bench::inputs[pin] = value;
    return true;
}
void unique_id(uint8_t id[8]) { memset(id, 0x11, 8); }
uint16_t lost_input() { return 0; }

}  // namespace backend
