/* avrpty: run an AVR image in libsimavr, with its UART on a pty at the speed of a wire.
 *
 *   avrpty FIRMWARE.elf [-l LINK] [-i ID] [-b BOOT_MS] [-d]
 *
 * -d: opening the port resets the chip, as DTR does on an Uno. -b: after start and resets the boot loader eats what comes
 * for so long. -i: the board's id (16 hexadecimal digits), put into EEPROM as the firmware keeps it.
 *
 * Prints "ready PTY", then a line for every pin that changes. A request a line on stdin, answered by one line of JSON:
 *   set PIN VALUE (0..1023: the voltage of an analog input; 0 or not 0: a digital one) | temperature PIN HUNDREDTHS
 *   get PIN | stats | reset | unplug | plug | noise HEX | quit
 *   hang (the CPU stands still, and what comes is lost: until resume, or a reset) | resume
 *   pause (the same, but what comes waits) | run
 *   harm in|out (a bit of the next byte that way is turned over)
 *   dtr 0 or 1 (opening the port resets) | boot MILLISECONDS (the boot loader's time, from the next reset on)
 * End of stdin ends it, so that nothing is left of a test that was killed.
 */
#define _GNU_SOURCE
#include "emulator.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

static const int64_t cycles_per_us = HZ / 1000000;
static const int64_t slip_after_ns = 100000000;

static volatile sig_atomic_t ended;
static int64_t started_ns; /* the moment at which the chip's clock stood at `started` */
static avr_cycle_count_t started;

static void stop(int number) {
    (void)number;
    ended = 1;
}

/* -- time -------------------------------------------------------------------------------------------------------- */

static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Where the chip's clock should stand. */
static avr_cycle_count_t present(void) {
    return started + (avr_cycle_count_t)((now_ns() - started_ns) * cycles_per_us / 1000);
}

static int64_t ns_until(avr_cycle_count_t when) {
    return (int64_t)(when - started) * 1000 / cycles_per_us + 1 - (now_ns() - started_ns);
}

static void start_clock(void) {
    started_ns = now_ns();
    started = avr->cycle;
}

/* -- the loop ---------------------------------------------------------------------------------------------------- */

/* A millisecond if nothing is on the line; else a byte's time: it must be known of before it is whole. */
static avr_cycle_count_t slice(void) {
    return avr->cycle < uart.lively_until && uart_byte_time() < MILLISECOND ? uart_byte_time() : MILLISECOND;
}

/* Until the chip has to catch up with the time, a byte of its is whole, or somebody wants something. */
static void wait_for_news(struct pollfd watched[2]) {
    avr_cycle_count_t next = avr->cycle + slice(), due = uart_due();
    int64_t left = ns_until(due < next ? due : next);
    struct timespec most = {0, left > 0 ? left : 0};
    if (uart.is_open) {
        ppoll(watched, 2, &most, NULL);
        return;
    }
    ppoll(watched, 1, &most, NULL); /* a pty that nobody has open would always have news */
    poll(watched, 2, 0);
}

/* The chip is never ahead of the time: it runs up to the present, and waits. What the host writes begins to arrive when
 * it is read here, and what the chip sends is delivered when it is whole. */
static void serve(void) {
    start_clock();
    while (!ended && !quit_requested) {
        struct pollfd watched[2] = {{0, POLLIN, 0}, {uart.line.master, uart_wants(), 0}};
        avr_cycle_count_t now;
        wait_for_news(watched);
        if (ns_until(avr->cycle) < -slip_after_ns) start_clock(); /* the machine is too slow: slip, don't race to catch up */
        if (watched[0].revents && !requests_read(obey)) return;
        if (watched[1].fd >= 0 && uart.line.master == watched[1].fd) uart_look(watched[1].revents, present());
        now = present();
        chip_run_until(now < avr->cycle + MILLISECOND ? now : avr->cycle + MILLISECOND);
        uart_deliver();
        pins_show();
        pins_weather();
    }
}

int main(int count, char **arguments) {
    const char *id = NULL;
    int option;
    while ((option = getopt(count, arguments, "l:i:b:d")) != -1) {
        if (option == 'l')
            uart.line.link = optarg;
        else if (option == 'i')
            id = optarg;
        else if (option == 'b')
            chip.boot_time = (avr_cycle_count_t)MILLISECOND * (avr_cycle_count_t)atoi(optarg);
        else if (option == 'd')
            chip.reset_at_open = 1;
        else
            return 2;
    }
    if (optind + 1 != count) {
        fprintf(stderr, "usage: avrpty FIRMWARE.elf [-l LINK] [-i ID] [-b BOOT_MS] [-d]\n");
        return 2;
    }
    chip_load(arguments[optind]);
    if (id && !chip_set_id(id)) {
        fprintf(stderr, "-i takes 16 hexadecimal digits\n");
        return 2;
    }
    signal(SIGTERM, stop);
    signal(SIGINT, stop);
    signal(SIGPIPE, SIG_IGN);
    prctl(PR_SET_TIMERSLACK, 1000UL); /* ns: the usual 50 us are most of a byte's time */
    uart_plug();
    chip_reset();
    say("ready %s", uart.line.path);
    pins_weather();
    serve();
    uart_unplug();
    avr_terminate(avr);
    return 0;
}
