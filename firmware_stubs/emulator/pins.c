/* Pins as they are numbered on the Uno. */
#include "emulator.h"

#include <stddef.h>

#include "avr_adc.h"
#include "avr_ioport.h"

enum { FIRST_ANALOG_PIN = 14, ANALOG_PINS = 6, COLDEST = -5000, HOTTEST = 45000 };

static int shown[PINS];       /* what was last printed of a pin; -1: nothing */
static int warm[ANALOG_PINS]; /* whether a temperature or voltage was set */

static const struct {
    uint8_t direction, output;
} ports[] = {{0x2a, 0x2b}, {0x24, 0x25}, {0x27, 0x28}}; /* D, B, C of the ATmega328P */

static const struct {
    int pin;
    uint8_t control, connected, compare;
} pwm[] = {{3, 0xb0, 0x20, 0xb4}, {5, 0x44, 0x20, 0x48}, {6, 0x44, 0x80, 0x47},
           {9, 0x80, 0x80, 0x88}, {10, 0x80, 0x20, 0x8a}, {11, 0xb0, 0x80, 0xb3}};

static int port_of(int pin) { return pin < 8 ? 0 : pin < FIRST_ANALOG_PIN ? 1 : 2; }
static int bit_of(int pin) { return pin < 8 ? pin : pin < FIRST_ANALOG_PIN ? pin - 8 : pin - FIRST_ANALOG_PIN; }

int pin_driven(int pin, const char **kind) {
    int port = port_of(pin), bit = bit_of(pin);
    size_t i;
    *kind = "digital";
    if (!(avr->data[ports[port].direction] >> bit & 1)) return -1;
    for (i = 0; i < sizeof pwm / sizeof pwm[0]; i++) {
        if (pwm[i].pin != pin || !(avr->data[pwm[i].control] & pwm[i].connected)) continue;
        *kind = "pwm";
        return (avr->data[pwm[i].compare] * 100 + 127) / 255;
    }
    return avr->data[ports[port].output] >> bit & 1;
}

void pins_show(void) {
    int pin;
    for (pin = FIRST_PIN; pin < PINS; pin++) {
        const char *kind;
        int value = pin_driven(pin, &kind);
        if (value < 0 || value == shown[pin]) continue;
        shown[pin] = value;
        say("pin %d %d %s", pin, value, kind);
    }
}

void pins_forget(void) {
    for (int pin = 0; pin < PINS; pin++) shown[pin] = -1;
}

static int analog_channel(int pin) {
    if (pin >= FIRST_ANALOG_PIN && pin < PINS) return pin - FIRST_ANALOG_PIN;
    return pin >= 0 && pin < ANALOG_PINS ? pin : -1;
}

static void set_voltage(int channel, int millivolts) {
    avr_raise_irq(avr_io_getirq(avr, AVR_IOCTL_ADC_GETIRQ, ADC_IRQ_ADC0 + channel), (uint32_t)millivolts);
}

static void set_temperature(int channel, int hundredths) { set_voltage(channel, (hundredths + 5000 + 5) / 10); }

int pin_set(int pin, int value) {
    static const char names[] = "DBC";
    int channel = analog_channel(pin);
    if (channel >= 0 && value >= 0 && value <= 1023) {
        warm[channel] = 1;
        set_voltage(channel, (value * avr->vcc + avr->vcc / 2) / 1024);
    }
    if (pin < FIRST_PIN || pin >= PINS) return channel >= 0;
    avr_raise_irq(avr_io_getirq(avr, AVR_IOCTL_IOPORT_GETIRQ(names[port_of(pin)]), bit_of(pin)), value != 0);
    return 1;
}

int pin_set_temperature(int pin, int hundredths) {
    int channel = analog_channel(pin);
    if (channel < 0 || hundredths < COLDEST || hundredths > HOTTEST) return 0;
    warm[channel] = 1;
    set_temperature(channel, hundredths);
    return 1;
}

/* A parabola up and one down. */
void pins_weather(void) {
    const int half = 60000;
    int at = (int)(avr->cycle / MILLISECOND % (2u * half)), x = at % half / 100, bow = 600 * x * (600 - x) / 360000, i;
    for (i = 0; i < ANALOG_PINS; i++)
        if (!warm[i]) set_temperature(i, at < half ? 2150 + bow : 2150 - bow);
}
