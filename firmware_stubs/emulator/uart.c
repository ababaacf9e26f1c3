/* The UART on a pty, at the speed of a wire: a byte is with the other side when it is whole, never before. */
#include "emulator.h"

#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "avr_uart.h"
#include "sim_cycle_timers.h"

enum { HOST_BAUD = 115200, HOST_BITS = 10 };

static const avr_cycle_count_t host_byte_time = ((avr_cycle_count_t)HZ * HOST_BITS + HOST_BAUD - 1) / HOST_BAUD;
static const avr_cycle_count_t lively_for = 5 * MILLISECOND;
static const avr_cycle_count_t never = ~(avr_cycle_count_t)0;

struct uart uart = {.line = {-1, -1, 0, NULL, ""}};
static avr_uart_t *device;
static int open_for_input; /* the firmware's receiver takes bytes */
static unsigned char in[512], out[65536];
static avr_cycle_count_t whole_at[sizeof out]; /* when that byte of `out` is */
static int in_count, in_next, out_count;
static avr_cycle_count_t fed_at;     /* when the last byte from the host began */
static avr_cycle_count_t said_until; /* when the last byte to the host is whole */
static avr_cycle_count_t full_until; /* the host doesn't read: no use trying before */

/* -- to the host ------------------------------------------------------------------------------------------------- */

avr_cycle_count_t uart_byte_time(void) { return device->cycles_per_byte; }

void uart_say(unsigned char byte) {
    uart.lively_until = avr->cycle + lively_for;
    if (said_until < avr->cycle) said_until = avr->cycle;
    said_until += uart_byte_time();
    if (out_count == sizeof out) {
        uart.bytes_lost++;
        return;
    }
    whole_at[out_count] = said_until;
    out[out_count++] = byte;
}

avr_cycle_count_t uart_due(void) {
    if (!out_count) return never;
    return whole_at[0] > full_until ? whole_at[0] : full_until;
}

void uart_deliver(void) {
    int count = 0;
    ssize_t gone;
    if (uart_due() > avr->cycle) return;
    while (count < out_count && whole_at[count] <= avr->cycle) count++;
    if (!uart.is_open) { /* nobody listens: as on a wire, it is gone */
        gone = count;
        uart.bytes_lost += (unsigned long)gone;
    } else {
        gone = write(uart.line.master, out, (size_t)count);
        if (gone <= 0) {
            full_until = avr->cycle + MILLISECOND;
            return;
        }
        uart.bytes_out += (unsigned long)gone;
    }
    out_count -= (int)gone;
    memmove(out, out + gone, (size_t)out_count);
    memmove(whole_at, whole_at + gone, (size_t)out_count * sizeof *whole_at);
}

static void on_byte(struct avr_irq_t *irq, uint32_t value, void *unused) {
    (void)irq;
    (void)unused;
    uart_say((unsigned char)(value ^ uart.harm_out));
    uart.harm_out = 0;
}

/* -- from the host ----------------------------------------------------------------------------------------------- */

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
static avr_cycle_count_t feed(avr_t *its_avr, avr_cycle_count_t when, void *unused) {
    (void)its_avr;
    (void)unused;
    if (in_next == in_count) return 0;
    if (open_for_input) {
        uart.bytes_in++;
        fed_at = when;
        avr_raise_irq(device->io.irq + UART_IRQ_INPUT, in[in_next++] ^ uart.harm_in);
        uart.harm_in = 0;
    }
    when += host_byte_time;
    return when > avr->cycle ? when : avr->cycle + host_byte_time; /* it stood still: no burst now */
}

/* The first byte of a row begins at `now`, if the line is free. The firmware's watchdog drops all timers, this one too. */
static void keep_feeding(avr_cycle_count_t now) {
    avr_cycle_count_t begin = fed_at + host_byte_time;
    if (in_next == in_count || avr_cycle_timer_status(avr, feed, NULL)) return;
    if (begin < now) begin = now;
    avr_cycle_timer_register(avr, begin > avr->cycle ? begin - avr->cycle : 1, feed, NULL);
}

static void take_in(avr_cycle_count_t now) {
    ssize_t got = read(uart.line.master, in, sizeof in);
    in_next = 0;
    in_count = got > 0 ? (int)got : 0;
    uart.lively_until = now + lively_for;
}

static void lose_input(void) {
    uart.bytes_lost += (unsigned long)(in_count - in_next);
    in_count = in_next = 0;
}

short uart_wants(void) { return in_next < in_count ? 0 : POLLIN; }

void uart_look(short events, avr_cycle_count_t now) {
    if ((events & POLLHUP) && !(events & POLLIN)) {
        uart.is_open = 0;
    } else if (!(events & POLLHUP) && !uart.is_open) {
        uart.is_open = 1;
        if (chip.reset_at_open) chip_reset();
    }
    if (events & POLLIN) take_in(now);
    if (chip_is_deaf()) lose_input();
    keep_feeding(now);
}

/* -- life -------------------------------------------------------------------------------------------------------- */

/* What a byte takes by the registers (data sheet of the ATmega328P, register description of USART0): simavr looks at them only when the divisor is
 * written, and counts a parity bit whether there is one or not. */
static void on_settings(struct avr_irq_t *irq, uint32_t value, void *unused) {
    avr_cycle_count_t divisor = 1u + avr_regbit_get(avr, device->ubrrl) + ((unsigned)avr_regbit_get(avr, device->ubrrh) << 8);
    int nine = avr_regbit_get(avr, device->ucsz2), parity = avr->data[device->r_ucsrc] >> 5 & 1;
    int data_bits = nine ? 9 : 5 + avr_regbit_get(avr, device->ucsz);
    int bits = 1 + data_bits + parity + 1 + avr_regbit_get(avr, device->usbs);
    (void)irq;
    (void)value;
    (void)unused;
    device->cycles_per_byte = divisor * (avr_regbit_get(avr, device->u2x) ? 8 : 16) * (unsigned)bits;
}

void uart_attach(void) {
    uint32_t flags = 0;
    avr_io_t *part = avr->io_port;
    while (strcmp(part->kind, "uart") || ((avr_uart_t *)part)->name != '0') part = part->next;
    device = (avr_uart_t *)part;
    avr_ioctl(avr, AVR_IOCTL_UART_SET_FLAGS('0'), &flags); /* no copy to stdout, no sleeping when polled */
    avr_irq_register_notify(device->io.irq + UART_IRQ_OUTPUT, on_byte, NULL);
    avr_irq_register_notify(device->io.irq + UART_IRQ_OUT_XON, on_xon, NULL);
    avr_irq_register_notify(device->io.irq + UART_IRQ_OUT_XOFF, on_xoff, NULL);
    const avr_io_addr_t registers[] = {device->ubrrl.reg, device->ubrrh.reg, device->r_ucsra, device->r_ucsrb, device->r_ucsrc};
    for (size_t i = 0; i < sizeof registers / sizeof registers[0]; i++)
        avr_irq_register_notify(avr_iomem_getirq(avr, registers[i], NULL, AVR_IOMEM_IRQ_ALL), on_settings, NULL);
}

static void clear(void) { in_count = in_next = out_count = 0; }

void uart_reset(void) {
    open_for_input = 0;
    clear();
}

void uart_plug(void) {
    uart.is_open = 0;
    clear();
    line_plug(&uart.line);
}

void uart_unplug(void) {
    line_unplug(&uart.line);
    uart.is_open = 0;
}
