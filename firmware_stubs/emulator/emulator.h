/* The parts of avrpty: the chip, its pins, its UART on a pty, and requests. Times are cycles of the chip. */
#ifndef MF_EMULATOR_H
#define MF_EMULATOR_H

#include "line.h"
#include "sim_avr.h"

enum { HZ = 16000000, MILLISECOND = HZ / 1000, FIRST_PIN = 2, PINS = 20 };

extern avr_t *avr;

/* -- chip.c ------------------------------------------------------------------------------------------------------ */

struct chip {
    int hanging;       /* the CPU stands still, and what comes is lost: until a reset, or a request */
    int paused;        /* the CPU stands still, and what comes waits */
    int reset_at_open; /* opening the port resets, as DTR does on an Uno */
    avr_cycle_count_t boot_time, boot_until; /* after a reset the boot loader eats what comes for so long */
};
extern struct chip chip;

/* Ends the process with a line on stderr for a file that is no firmware. */
void chip_load(const char *path);

/* The board's id, 16 hexadecimal digits, into EEPROM as the firmware keeps it. 0 for other text. */
int chip_set_id(const char *digits);

void chip_reset(void);
void chip_run_until(avr_cycle_count_t end);
int chip_is_deaf(void);

/* -- pins.c ------------------------------------------------------------------------------------------------------ */

/* What the chip does to a pin: 0 or 1, or a duty cycle in percent; -1 where it is an input. */
int pin_driven(int pin, const char **kind);

/* From outside: 0..1023 to an analog input, 0 or not 0 to a digital one; hundredths of a degree. 0: there is no such input. */
int pin_set(int pin, int value);
int pin_set_temperature(int pin, int hundredths);

/* Print a line for every pin that has changed since, or since `pins_forget`. */
void pins_show(void);
void pins_forget(void);

/* A mild day that passes in two minutes, on every input where nothing else was set. */
void pins_weather(void);

/* -- uart.c ------------------------------------------------------------------------------------------------------ */

struct uart {
    struct line line;
    int is_open;                    /* a host has the port open */
    unsigned char harm_in, harm_out; /* bits of the next byte that are turned over */
    unsigned long bytes_in, bytes_out, bytes_lost;
    avr_cycle_count_t lively_until; /* bytes are on the line: look at it as often as they come */
};
extern struct uart uart;

void uart_attach(void);
void uart_reset(void);
void uart_plug(void);
void uart_unplug(void);

/* How long a byte from the chip is on the wire. */
avr_cycle_count_t uart_byte_time(void);

/* A byte begins on its way to the host, or will when those before it are through. */
void uart_say(unsigned char byte);

/* When the next byte is whole and can be delivered; the end of time if there is none. */
avr_cycle_count_t uart_due(void);
void uart_deliver(void);

/* What to poll the pty for, and what to do when that has happened. */
short uart_wants(void);
void uart_look(short events, avr_cycle_count_t now);

/* -- requests.c -------------------------------------------------------------------------------------------------- */

extern int quit_requested;

/* One request; prints the answer. */
void obey(char *request);

#endif
