// The board on an ATmega328P (Arduino Uno and alike): UART by interrupt at 115200, timer 0 as the clock, pins as they
// are numbered on the Uno, A0 as 14 (analog inputs also as 0 to 5).

#include <avr/eeprom.h>
#include <avr/interrupt.h>
#include <avr/io.h>
#include <avr/sleep.h>
#include <avr/wdt.h>
#include <string.h>

#include "backend.h"
#include "board.h"
#include "flash.h"
#include "generated.h"

namespace {

constexpr uint8_t kReceiveRing = 128;  // 12 commands; a power of two, as its index wraps
constexpr uint8_t kSendRing = 64;
static_assert(mf::kReceiveBytes < kReceiveRing, "the host is told of room that there is");

volatile uint8_t receive_ring[kReceiveRing];
volatile uint8_t receive_head = 0, receive_tail = 0;
volatile uint8_t send_ring[kSendRing];
volatile uint8_t send_head = 0, send_tail = 0;
volatile uint16_t lost_bytes = 0;
volatile uint32_t clock_ms = 0;

mf::Board board;

// -- pins -------------------------------------------------------------------------------------------------------------

constexpr uint8_t kFirstPin = 2;  // 0 and 1 are the UART
constexpr uint8_t kFirstAnalogPin = 14, kLastPin = 19;
constexpr uint8_t kAnalogPins = 6;

struct PortPin {
    volatile uint8_t *input, *direction, *output;
    uint8_t bit;
};

PortPin port_pin(uint8_t pin) {
    if (pin < 8) return {&PIND, &DDRD, &PORTD, static_cast<uint8_t>(1 << pin)};
    if (pin < kFirstAnalogPin) return {&PINB, &DDRB, &PORTB, static_cast<uint8_t>(1 << (pin - 8))};
    return {&PINC, &DDRC, &PORTC, static_cast<uint8_t>(1 << (pin - kFirstAnalogPin))};
}

void set_bits(volatile uint8_t *at, uint8_t bits, bool on) {
    *at = static_cast<uint8_t>(on ? *at | bits : *at & ~bits);
}

struct PwmChannel {
    volatile uint8_t *control;
    uint8_t connect;  // the control bit that gives the pin to the timer
    volatile uint8_t *compare;
};

bool pwm_channel(uint8_t pin, PwmChannel *channel) {
    switch (pin) {
        case 3:
            *channel = {&TCCR2A, 1 << COM2B1, &OCR2B};
            return true;
        case 5:
            *channel = {&TCCR0A, 1 << COM0B1, &OCR0B};
            return true;
        case 6:
            *channel = {&TCCR0A, 1 << COM0A1, &OCR0A};
            return true;
        case 9:
            *channel = {&TCCR1A, 1 << COM1A1, &OCR1AL};
            return true;
        case 10:
            *channel = {&TCCR1A, 1 << COM1B1, &OCR1BL};
            return true;
        case 11:
            *channel = {&TCCR2A, 1 << COM2A1, &OCR2A};
            return true;
        default:
            return false;
    }
}

uint8_t analog_channel(uint8_t pin) { return pin >= kFirstAnalogPin ? pin - kFirstAnalogPin : pin; }

uint16_t convert(uint8_t channel) {
    ADMUX = static_cast<uint8_t>(1 << REFS0 | channel);  // measured against the supply
    ADCSRA |= 1 << ADSC;
    while (ADCSRA & (1 << ADSC)) {
    }
    return ADC;
}

// -- start ------------------------------------------------------------------------------------------------------------

void start_uart() {
    constexpr uint32_t kBaud = 115200;
    UCSR0A = 1 << U2X0;
    UBRR0 = static_cast<uint16_t>((F_CPU / 4 / kBaud - 1) / 2);
    UCSR0C = 1 << UCSZ01 | 1 << UCSZ00;
    UCSR0B = 1 << RXCIE0 | 1 << RXEN0 | 1 << TXEN0;
}

// All three timers run as fast or phase correct 8-bit PWM; the overflow of timer 0 is the clock.
void start_timers() {
    TCCR0A = 1 << WGM01 | 1 << WGM00;
    TCCR0B = 1 << CS01 | 1 << CS00;
    TIMSK0 = 1 << TOIE0;
    TCCR1A = 1 << WGM10;
    TCCR1B = 1 << CS11 | 1 << CS10;
    TCCR2A = 1 << WGM20;
    TCCR2B = 1 << CS22;
}

void start_analog() { ADCSRA = 1 << ADEN | 1 << ADPS2 | 1 << ADPS1 | 1 << ADPS0; }

// -- the board's id ---------------------------------------------------------------------------------------------------

constexpr uint8_t kIdSize = 8;
uint8_t id[kIdSize];

uint8_t id_check() {
    uint8_t sum = 0x5a;
    for (uint8_t i = 0; i < kIdSize; i++) sum = static_cast<uint8_t>(sum ^ id[i]);
    return sum;
}

// Kept in EEPROM, which boot loaders leave alone. A new board makes its own from the noise of open analog inputs.
void load_id() {
    eeprom_read_block(id, nullptr, kIdSize);
    uint8_t *const check = reinterpret_cast<uint8_t *>(kIdSize);
    if (eeprom_read_byte(check) == id_check()) return;
    uint32_t hash[2] = {2166136261u, 84696351u};  // FNV-1a, in two lanes
    for (uint16_t i = 0; i < 512; i++) {
        hash[i & 1] = (hash[i & 1] ^ (convert(static_cast<uint8_t>(i % 7)) + TCNT0)) * 16777619u;
    }
    memcpy(id, hash, kIdSize);
    eeprom_update_block(id, nullptr, kIdSize);
    eeprom_update_byte(check, id_check());
}

// -- the loop ---------------------------------------------------------------------------------------------------------

bool take_byte(uint8_t *byte) {
    if (receive_head == receive_tail) return false;
    *byte = receive_ring[receive_tail];
    receive_tail = (receive_tail + 1) % kReceiveRing;
    return true;
}

// Until the next interrupt; the clock's comes every millisecond.
void rest() {
    cli();
    if (receive_head == receive_tail) {
        sleep_enable();
        sei();
        sleep_cpu();
        sleep_disable();
    }
    sei();
}

}  // namespace

ISR(USART_RX_vect) {
    const uint8_t errors = UCSR0A & (1 << FE0 | 1 << DOR0);
    const uint8_t byte = UDR0;
    const uint8_t next = (receive_head + 1) % kReceiveRing;
    if (errors || next == receive_tail) {
        lost_bytes++;
        if (next == receive_tail) return;
    }
    receive_ring[receive_head] = byte;
    receive_head = next;
}

ISR(USART_UDRE_vect) {
    if (send_head == send_tail) {
        UCSR0B &= static_cast<uint8_t>(~(1 << UDRIE0));
        return;
    }
    UDR0 = send_ring[send_tail];
    send_tail = (send_tail + 1) % kSendRing;
}

ISR(TIMER0_OVF_vect) {  // every 1024 microseconds
    static uint16_t over = 0;
    clock_ms++;
    over += 24;
    if (over >= 1000) {
        over -= 1000;
        clock_ms++;
    }
}

namespace backend {

void send(const uint8_t *bytes, uint8_t count) {
    for (uint8_t i = 0; i < count; i++) {
        const uint8_t next = (send_head + 1) % kSendRing;
        while (next == send_tail) {
        }
        send_ring[send_head] = bytes[i];
        send_head = next;
        UCSR0B |= 1 << UDRIE0;
    }
}

uint32_t millis() {
    cli();
    const uint32_t now = clock_ms;
    sei();
    return now;
}

bool pin_usable(int32_t pin, PinUse use) {
    PwmChannel channel;
    switch (use) {
        case kAnalogIn:
        case kThermometer:
            return (pin >= 0 && pin < kAnalogPins) || (pin >= kFirstAnalogPin && pin <= kLastPin);
        case kPwmOut:
            return pin >= kFirstPin && pin <= kLastPin && pwm_channel(static_cast<uint8_t>(pin), &channel);
        default:
            return pin >= kFirstPin && pin <= kLastPin;
    }
}

bool digital_read(uint8_t pin) {
    const PortPin at = port_pin(pin);
    return *at.input & at.bit;
}

void pull_up(uint8_t pin, bool on) {
    const PortPin at = port_pin(pin);
    set_bits(at.direction, at.bit, false);
    set_bits(at.output, at.bit, on);
}

void digital_write(uint8_t pin, bool on) {
    const PortPin at = port_pin(pin);
    PwmChannel channel;
    if (pwm_channel(pin, &channel)) set_bits(channel.control, channel.connect, false);
    set_bits(at.output, at.bit, on);
    set_bits(at.direction, at.bit, true);
}

int32_t analog_read(uint8_t pin) { return convert(analog_channel(pin)); }

void pwm_write(uint8_t pin, uint8_t percent) {
    PwmChannel channel;
    if (!pwm_channel(pin, &channel)) return;
    if (percent == 0 || percent == 100) return digital_write(pin, percent != 0);  // without the narrow pulse
    const PortPin at = port_pin(pin);
    *channel.compare = static_cast<uint8_t>((percent * 255u + 50) / 100);
    set_bits(at.direction, at.bit, true);
    set_bits(channel.control, channel.connect, true);
}

// A TMP36: 10 mV a degree, 500 mV at 0 °C. The mean of 16 readings; on a quiet supply of 5 V a step is half a degree.
int32_t temperature(uint8_t pin, uint32_t) {
    uint32_t sum = 8;  // half a step, as the converter rounds down
    for (uint8_t i = 0; i < 16; i++) sum += convert(analog_channel(pin));
    return static_cast<int32_t>(sum * 50000u / (16u * 1024u)) - 5000;
}

bool simulate_input(uint8_t, int32_t) { return false; }

void unique_id(uint8_t to[8]) { memcpy(to, id, kIdSize); }

uint16_t lost_input() {
    cli();
    const uint16_t count = lost_bytes;
    sei();
    return count;
}

}  // namespace backend

int main() {
    MCUSR = 0;  // after a reset by watchdog it would come again and again
    wdt_disable();
    set_sleep_mode(SLEEP_MODE_IDLE);
    start_analog();
    load_id();
    start_uart();
    start_timers();
    sei();
    board.start(backend::millis());
    for (;;) {
        uint8_t byte;
        while (take_byte(&byte)) board.receive(byte, backend::millis());
        board.turn(backend::millis());
        uint32_t wait_ms;
        if (board.at_rest(backend::millis(), &wait_ms)) rest();
    }
}
