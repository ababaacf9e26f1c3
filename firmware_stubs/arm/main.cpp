// The board on a Cortex-M3 (TI LM3S6965), as qemu has it: a second compiler and 32-bit int for the same core. Nothing
// but UART and clock is there; pins are kept in memory, so inputs can be set by SetIoValue.

#include <stdint.h>
#include <string.h>

#include "backend.h"
#include "board.h"
#include "generated.h"

namespace {

// -- registers (LM3S6965 data sheet) ----------------------------------------------------------------------------------

volatile uint32_t &reg(uint32_t address) { return *reinterpret_cast<volatile uint32_t *>(address); }

constexpr uint32_t kUart = 0x4000C000;
constexpr uint32_t kUartData = kUart, kUartFlags = kUart + 0x18, kUartLine = kUart + 0x2C, kUartControl = kUart + 0x30;
constexpr uint32_t kUartMask = kUart + 0x38, kUartClear = kUart + 0x44;
constexpr uint32_t kReceiveEmpty = 1 << 4, kTransmitFull = 1 << 5;
constexpr uint32_t kUartOn = 0x301, kEightBitsFifo = 0x60 | 0x10, kReceiveInterrupts = 0x50;
constexpr uint32_t kEnableInterrupts = 0xE000E100, kUartInterrupt = 5;
constexpr uint32_t kTickControl = 0xE000E010, kTickReload = 0xE000E014, kTickValue = 0xE000E018;
constexpr uint32_t kClockHz = 12000000;

constexpr uint16_t kReceiveRing = 1024;
static_assert(mf::kReceiveBytes < kReceiveRing, "the host is told of room that there is");

volatile uint8_t receive_ring[kReceiveRing];
volatile uint16_t receive_head = 0, receive_tail = 0;
volatile uint16_t lost_bytes = 0;
volatile uint32_t clock_ms = 0;

constexpr int32_t kPins = 64;
int32_t inputs[kPins];
bool is_set[kPins];

mf::Board board;

bool take_byte(uint8_t *byte) {
    if (receive_head == receive_tail) return false;
    *byte = receive_ring[receive_tail];
    receive_tail = static_cast<uint16_t>((receive_tail + 1) % kReceiveRing);
    return true;
}

void start_uart() {
    reg(kUartLine) = kEightBitsFifo;
    reg(kUartControl) = kUartOn;
    reg(kUartMask) = kReceiveInterrupts;
    reg(kEnableInterrupts) = 1u << kUartInterrupt;
}

void start_clock() {
    reg(kTickReload) = kClockHz / 1000 - 1;
    reg(kTickValue) = 0;
    reg(kTickControl) = 7;
}

[[noreturn]] void run() {
    start_uart();
    start_clock();
    board.start(backend::millis());
    for (;;) {
        uint8_t byte;
        while (take_byte(&byte)) board.receive(byte, backend::millis());
        board.turn(backend::millis());
        uint32_t wait_ms;
        if (!board.at_rest(backend::millis(), &wait_ms)) continue;
        __asm volatile("cpsid i");  // a pending interrupt ends wfi all the same, and is taken right after
        if (receive_head == receive_tail) __asm volatile("wfi");
        __asm volatile("cpsie i");
    }
}

}  // namespace

// -- start: what a C library would do ---------------------------------------------------------------------------------

extern "C" {

extern uint32_t data_load, data_start, data_end, bss_start, bss_end, stack_top;
extern void (*init_start[])();
extern void (*init_end[])();

[[noreturn]] void on_reset() {
    memcpy(&data_start, &data_load, static_cast<size_t>(reinterpret_cast<char *>(&data_end) - reinterpret_cast<char *>(&data_start)));
    memset(&bss_start, 0, static_cast<size_t>(reinterpret_cast<char *>(&bss_end) - reinterpret_cast<char *>(&bss_start)));
    for (void (**init)() = init_start; init != init_end; init++) (*init)();
    run();
}

[[noreturn]] void on_fault() {
    for (;;) {
    }
}

void on_tick() { clock_ms = clock_ms + 1; }

void on_uart() {
    reg(kUartClear) = kReceiveInterrupts;
    while (!(reg(kUartFlags) & kReceiveEmpty)) {
        const uint8_t byte = static_cast<uint8_t>(reg(kUartData));
        const uint16_t next = static_cast<uint16_t>((receive_head + 1) % kReceiveRing);
        if (next == receive_tail) {
            lost_bytes = static_cast<uint16_t>(lost_bytes + 1);
            continue;
        }
        receive_ring[receive_head] = byte;
        receive_head = next;
    }
}

typedef void (*Vector)();

__attribute__((section(".vectors"), used)) const Vector vectors[] = {
    reinterpret_cast<Vector>(&stack_top),
    on_reset,
    on_fault, on_fault, on_fault, on_fault, on_fault,  // NMI, hard fault, memory, bus, usage
    nullptr, nullptr, nullptr, nullptr,
    on_fault, on_fault, nullptr, on_fault,             // SVC, debug, -, PendSV
    on_tick,
    on_fault, on_fault, on_fault, on_fault, on_fault,  // GPIO A to E
    on_uart,
};

}  // extern "C"

namespace backend {

void send(const uint8_t *bytes, uint8_t count) {
    for (uint8_t i = 0; i < count; i++) {
        while (reg(kUartFlags) & kTransmitFull) {
        }
        reg(kUartData) = bytes[i];
    }
}

uint32_t millis() { return clock_ms; }
bool pin_usable(int32_t pin, PinUse) { return pin >= 0 && pin < kPins; }
bool digital_read(uint8_t pin) { return inputs[pin] != 0; }
void pull_up(uint8_t, bool) {}
void digital_write(uint8_t, bool) {}
int32_t analog_read(uint8_t pin) { return inputs[pin]; }
void pwm_write(uint8_t, uint8_t) {}
int32_t temperature(uint8_t pin, uint32_t) { return is_set[pin] ? inputs[pin] : 2150; }

bool simulate_input(uint8_t pin, int32_t value) {
    if (pin >= kPins) return false;
    inputs[pin] = value;
    is_set[pin] = true;
    return true;
}

void unique_id(uint8_t id[8]) { memcpy(id, "lm3s6965", 8); }  // qemu gives all of them the same memory
uint16_t lost_input() { return lost_bytes; }

}  // namespace backend
