/* avrpty: run an AVR image in libsimavr, with its UART on a pty at the speed of a wire.
 *
 *   avrpty FIRMWARE.elf [-l LINK] [-i ID] [-b BOOT_MS] [-d]
 *
 * -d: opening the port resets the chip, as DTR does on an Uno. -b: after a reset the boot loader eats what comes for so
 * long. -i: the board's id (16 hexadecimal digits), put into EEPROM as the firmware keeps it.
 *
 * Prints "ready PTY", then a line for every pin that changes. A request a line on stdin, answered by one line of JSON:
 *   set PIN VALUE (0..1023: the voltage of an analog input; 0 or not 0: a digital one) | temperature PIN HUNDREDTHS
 *   get PIN | stats | reset | unplug | plug | hang | resume | pause | run | noise HEX | quit
 *   harm in|out (a bit of the next byte that way is turned over)
 *   dtr 0 or 1 (opening the port resets) | boot MILLISECONDS (the boot loader's time, from the next reset on)
 * End of stdin ends it, so that nothing is left of a test that was killed.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "line.h"

#include "avr_adc.h"
#include "avr_eeprom.h"
#include "avr_ioport.h"
#include "avr_uart.h"
#include "sim_avr.h"
#include "sim_cycle_timers.h"
#include "sim_elf.h"

enum { HZ = 16000000, BAUD = 115200, PINS = 20, FIRST_PIN = 2, FIRST_ANALOG_PIN = 14, ANALOG_PINS = 6, VCC_MV = 5000 };

static struct line wire = {-1, -1, 0, NULL, ""};
static avr_t *avr;
static avr_irq_t *uart_in;
static int open_for_input;     /* the firmware's receiver takes bytes */
static int is_open;            /* a host has the port open */
static int dtr;                /* opening it resets */
static int stopped;            /* the CPU stands still */
static int deaf;               /* ... and what comes is lost */
static volatile sig_atomic_t ended;
static unsigned char out[65536], in[512];
static int out_count, in_count, in_next;
static unsigned char harm_in, harm_out;
static unsigned long bytes_in, bytes_out, bytes_lost;
static const avr_cycle_count_t lively_for = HZ / 200;
static avr_cycle_count_t boot_until, byte_gap, boot_cycles;
static avr_cycle_count_t lively_until; /* bytes are on the line: look at it as often as they come */
static avr_cycle_count_t out_since;    /* when the first of the bytes that wait was begun */
static avr_cycle_count_t fed_at;       /* when the last byte went in */
static int shown[PINS];        /* what was last printed of a pin; -1: nothing */
static int warm[ANALOG_PINS];  /* whether a temperature or voltage was set */

static void stop(int number) {
    (void)number;
    ended = 1;
}

static uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

/* -- the UART ---------------------------------------------------------------------------------------------------- */

static void flush_out(void) {
    ssize_t written;
    if (!out_count) return;
    if (wire.master < 0 || !is_open) { /* nobody listens: as on a wire, it is gone */
        bytes_lost += (unsigned long)out_count;
        out_count = 0;
        return;
    }
    written = write(wire.master, out, (size_t)out_count);
    if (written <= 0) return;
    out_count -= (int)written;
    bytes_out += (unsigned long)written;
    memmove(out, out + written, (size_t)out_count);
}

static void say_byte(unsigned char byte) {
    lively_until = avr->cycle + lively_for;
    if (!out_count) out_since = avr->cycle;
    if (out_count == sizeof out) flush_out();
    if (out_count < (int)sizeof out)
        out[out_count++] = byte;
    else
        bytes_lost++;
}

static void on_byte(struct avr_irq_t *irq, uint32_t value, void *unused) {
    (void)irq;
    (void)unused;
    say_byte((unsigned char)(value ^ harm_out));
    harm_out = 0;
}

static void on_xon(struct avr_irq_t *irq, uint32_t value, void *unused) {
    (void)irq;
    (void)value;
    (void)unused;
    open_for_input = 1;
}

static void on_xoff(struct avr_irq_t *irq, uint32_t value, void *unused) {
    (void)irq;
    (void)unused;
    if (value) open_for_input = 0;
}

/* One byte a byte's time, however much the host wrote at once. simavr adds the time that a byte takes to arrive. */
static avr_cycle_count_t feed(avr_t *chip, avr_cycle_count_t when, void *unused) {
    (void)unused;
    if (open_for_input && in_next < in_count && chip->cycle >= boot_until) {
        bytes_in++;
        fed_at = when;
        avr_raise_irq(uart_in, in[in_next++] ^ harm_in);
        harm_in = 0;
    }
    return when + byte_gap;
}

/* The line was idle: the first byte of a row begins now, not at the next step of a clock that nobody has. */
static void feed_now(void) {
    avr_cycle_count_t next = fed_at + byte_gap;
    avr_cycle_timer_cancel(avr, feed, NULL);
    avr_cycle_timer_register(avr, next > avr->cycle ? next - avr->cycle : 1, feed, NULL);
}

/* -- pins -------------------------------------------------------------------------------------------------------- */

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

/* What the chip does to a pin: 0 or 1, or a duty cycle in percent; -1 where it is an input. */
static int driven(int pin, const char **kind) {
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

static void show_pins(void) {
    int pin;
    for (pin = FIRST_PIN; pin < PINS; pin++) {
        const char *kind;
        int value = driven(pin, &kind);
        if (value < 0 || value == shown[pin]) continue;
        shown[pin] = value;
        say("pin %d %d %s", pin, value, kind);
    }
}

static int analog_channel(int pin) {
    if (pin >= FIRST_ANALOG_PIN && pin < PINS) return pin - FIRST_ANALOG_PIN;
    return pin >= 0 && pin < ANALOG_PINS ? pin : -1;
}

static void set_voltage(int channel, int millivolts) {
    avr_raise_irq(avr_io_getirq(avr, AVR_IOCTL_ADC_GETIRQ, ADC_IRQ_ADC0 + channel), (uint32_t)millivolts);
}

static void set_temperature(int channel, int hundredths) { set_voltage(channel, (hundredths + 5000 + 5) / 10); }

static int set_input(int pin, int value) {
    static const char names[] = "DBC";
    int channel = analog_channel(pin);
    if (channel >= 0 && value >= 0 && value <= 1023) {
        warm[channel] = 1;
        set_voltage(channel, (value * VCC_MV + VCC_MV / 2) / 1024);
    }
    if (pin < FIRST_PIN || pin >= PINS) return channel >= 0;
    avr_raise_irq(avr_io_getirq(avr, AVR_IOCTL_IOPORT_GETIRQ(names[port_of(pin)]), bit_of(pin)), value != 0);
    return 1;
}

/* A mild day that passes in two minutes, on every input where nothing else was set: a parabola up and one down. */
static void weather(void) {
    const int half = 60000;
    int at = (int)(avr->cycle / (HZ / 1000) % (2u * half)), x = at % half / 100, bow = 600 * x * (600 - x) / 360000, i;
    for (i = 0; i < ANALOG_PINS; i++)
        if (!warm[i]) set_temperature(i, at < half ? 2150 + bow : 2150 - bow);
}

/* -- life -------------------------------------------------------------------------------------------------------- */

static void reset(avr_cycle_count_t boot) {
    avr_reset(avr);
    avr->state = cpu_Running;
    open_for_input = 0;
    out_count = in_count = in_next = 0;
    boot_until = avr->cycle + boot;
    for (int pin = 0; pin < PINS; pin++) shown[pin] = -1;
}

static void never_sleep(avr_t *chip, avr_cycle_count_t cycles) { /* the loop below keeps the time */
    (void)chip;
    (void)cycles;
}

static void set_id(const char *digits) {
    unsigned char bytes[9];
    avr_eeprom_desc_t eeprom = {bytes, 0, sizeof bytes};
    if (from_hex(digits, bytes, 8) != 8) {
        fprintf(stderr, "-i takes 16 hexadecimal digits\n");
        exit(2);
    }
    bytes[8] = 0x5a;
    for (int i = 0; i < 8; i++) bytes[8] ^= bytes[i];
    avr_ioctl(avr, AVR_IOCTL_EEPROM_SET, &eeprom);
}

static void load(const char *path) {
    static elf_firmware_t image;
    uint32_t flags = 0;
    if (access(path, R_OK) || elf_read_firmware(path, &image)) {
        fprintf(stderr, "%s: can't be read as firmware\n", path);
        exit(2);
    }
    avr = avr_make_mcu_by_name("atmega328p");
    avr_init(avr);
    image.frequency = HZ;
    strcpy(image.mmcu, "atmega328p");
    avr->log = LOG_NONE;
    avr_load_firmware(avr, &image);
    avr->frequency = HZ;
    avr->vcc = avr->avcc = avr->aref = VCC_MV;
    avr_ioctl(avr, AVR_IOCTL_UART_SET_FLAGS('0'), &flags); /* no copy to stdout, no sleeping when polled */
    uart_in = avr_io_getirq(avr, AVR_IOCTL_UART_GETIRQ('0'), UART_IRQ_INPUT);
    avr_irq_register_notify(avr_io_getirq(avr, AVR_IOCTL_UART_GETIRQ('0'), UART_IRQ_OUTPUT), on_byte, NULL);
    avr_irq_register_notify(avr_io_getirq(avr, AVR_IOCTL_UART_GETIRQ('0'), UART_IRQ_OUT_XON), on_xon, NULL);
    avr_irq_register_notify(avr_io_getirq(avr, AVR_IOCTL_UART_GETIRQ('0'), UART_IRQ_OUT_XOFF), on_xoff, NULL);
    avr->sleep = never_sleep;
    byte_gap = (avr_cycle_count_t)HZ * 10 / BAUD;
}

static void plug(void) {
    is_open = in_count = in_next = out_count = 0;
    line_plug(&wire);
}

/* -- requests ---------------------------------------------------------------------------------------------------- */

static void tell_statistics(void) {
    const char *between = "", *kind;
    printf("{\"pins\": {");
    for (int pin = FIRST_PIN; pin < PINS; pin++) {
        int value = driven(pin, &kind);
        if (value < 0) continue;
        printf("%s\"%d\": %d", between, pin, value);
        between = ", ";
    }
    say("}, \"bytes_in\": %lu, \"bytes_out\": %lu, \"bytes_lost\": %lu, \"milliseconds\": %llu}", bytes_in, bytes_out,
        bytes_lost, (unsigned long long)(avr->cycle / (HZ / 1000)));
}

static int act(const char *word, int number, int value, const char *text) {
    int pin = number;
    if (!strcmp(word, "set")) return set_input(pin, value);
    if (!strcmp(word, "temperature")) {
        if (analog_channel(pin) < 0 || value < -5000 || value > 45000) return 0;
        warm[analog_channel(pin)] = 1;
        set_temperature(analog_channel(pin), value);
    } else if (!strcmp(word, "dtr")) {
        dtr = number != 0;
    } else if (!strcmp(word, "boot") && number >= 0) {
        boot_cycles = (avr_cycle_count_t)HZ / 1000 * (avr_cycle_count_t)number;
    } else if (!strcmp(word, "reset")) {
        reset(boot_cycles);
    } else if (!strcmp(word, "unplug")) {
        line_unplug(&wire);
        is_open = 0;
    } else if (!strcmp(word, "plug") && wire.master < 0) {
        plug();
        reset(boot_cycles);
    } else if (!strcmp(word, "hang") || !strcmp(word, "pause")) {
        stopped = 1;
        deaf = word[0] == 'h';
    } else if (!strcmp(word, "resume") || !strcmp(word, "run")) {
        stopped = deaf = 0;
    } else if (!strcmp(word, "noise")) {
        unsigned char bytes[256];
        int count = from_hex(text, bytes, sizeof bytes);
        for (int i = 0; i < count; i++) say_byte(bytes[i]);
        return count >= 0;
    } else if (!strcmp(word, "harm")) {
        *(strcmp(text, "in") ? &harm_out : &harm_in) = 0x10;
    } else if (!strcmp(word, "quit")) {
        ended = 1;
    } else {
        return 0;
    }
    return 1;
}

static void obey(char *request) {
    char word[16] = "", text[600] = "";
    const char *kind;
    int value = 0, found = sscanf(request, "%15s %599s %d", word, text, &value), pin = atoi(text);
    if (!strcmp(word, "stats")) {
        tell_statistics();
    } else if (!strcmp(word, "get") && found == 2 && pin >= FIRST_PIN && pin < PINS) {
        show_pins();
        value = driven(pin, &kind);
        if (value < 0)
            say("{\"pin\": %d, \"value\": null}", pin);
        else
            say("{\"pin\": %d, \"value\": %d}", pin, value);
    } else if (((!strcmp(word, "set") || !strcmp(word, "temperature")) && found < 3) || !act(word, pin, value, text)) {
        say("{\"error\": \"unknown request, or it doesn't fit now\"}");
    } else {
        say("{\"ok\": true}");
    }
}

/* -- the loop ---------------------------------------------------------------------------------------------------- */

/* The port was opened or closed, or has bytes. */
static void look_at_port(short events) {
    if ((events & POLLHUP) && !(events & POLLIN)) {
        is_open = 0;
    } else if (!(events & POLLHUP) && !is_open) {
        is_open = 1;
        if (dtr) reset(boot_cycles);
    }
    if (!(events & POLLIN)) return;
    if (avr->cycle < boot_until || deaf) {
        ssize_t eaten = read(wire.master, in, sizeof in);
        if (eaten > 0) bytes_lost += (unsigned long)eaten;
        in_count = in_next = 0;
    } else if (in_next == in_count) {
        ssize_t got = read(wire.master, in, sizeof in);
        in_count = got > 0 ? (int)got : 0;
        in_next = 0;
        if (got > 0) feed_now();
        lively_until = avr->cycle + lively_for;
    }
}

static void run_until(avr_cycle_count_t end) {
    if (!avr_cycle_timer_status(avr, feed, NULL)) avr_cycle_timer_register(avr, byte_gap, feed, NULL); /* a reset drops it */
    if (stopped || avr->cycle < boot_until) {
        avr->cycle = end; /* only the clock moves */
        return;
    }
    while (avr->cycle < end) {
        int state = avr_run(avr);
        if (state == cpu_Done || state == cpu_Crashed) {
            say("crash");
            reset(boot_cycles);
            return;
        }
    }
}

/* simavr tells a byte when it begins: the host has it when it is whole. */
static int is_due(void) {
    return out_count && avr->cycle - out_since >= byte_gap;
}

/* The chip runs in slices, and between two of them host and chip hear each other: a millisecond each when nothing is on
 * the line, half a byte's time when something is. Longer ones would round a request and its answer up to whole slices. */
static void serve(void) {
    uint64_t started = now_ns();
    avr_cycle_count_t first = avr->cycle;
    while (!ended) {
        struct pollfd watched[2] = {{0, POLLIN, 0}, {wire.master, 0, 0}};
        int64_t ahead = (int64_t)((avr->cycle - first) * 1000 / (HZ / 1000000)) - (int64_t)(now_ns() - started);
        if (ahead < -100000000) { /* the machine is too slow: slip, don't race to catch up */
            started = now_ns();
            first = avr->cycle;
        }
        if (ahead > 0) {
            struct timespec pause = {ahead / 1000000000, ahead % 1000000000};
            clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
        }
        watched[1].events = in_next < in_count ? 0 : POLLIN;
        poll(watched, 2, 0);
        if (watched[0].revents && !requests_read(obey)) return;
        if (wire.master >= 0 && wire.master == watched[1].fd) look_at_port(watched[1].revents);
        weather();
        run_until(avr->cycle + (avr->cycle < lively_until ? byte_gap / 2 : HZ / 1000));
        show_pins();
        if (is_due()) flush_out();
    }
}

int main(int count, char **arguments) {
    const char *id = NULL;
    int option, boot_ms = 0;
    while ((option = getopt(count, arguments, "l:i:b:d")) != -1) {
        if (option == 'l')
            wire.link = optarg;
        else if (option == 'i')
            id = optarg;
        else if (option == 'b')
            boot_ms = atoi(optarg);
        else if (option == 'd')
            dtr = 1;
        else
            return 2;
    }
    if (optind + 1 != count) {
        fprintf(stderr, "usage: avrpty FIRMWARE.elf [-l LINK] [-i ID] [-b BOOT_MS] [-d]\n");
        return 2;
    }
    load(arguments[optind]);
    if (id) set_id(id);
    boot_cycles = (avr_cycle_count_t)HZ / 1000 * (avr_cycle_count_t)boot_ms;
    signal(SIGTERM, stop);
    signal(SIGINT, stop);
    signal(SIGPIPE, SIG_IGN);
    prctl(PR_SET_TIMERSLACK, 1000UL); /* ns: the usual 50 us are most of a byte's time */
    plug();
    reset(0);
    say("ready %s", wire.path);
    serve();
    line_unplug(&wire);
    avr_terminate(avr);
    return 0;
}
