/* The chip: its image, its id, resets, and how it passes the time. */
#include "emulator.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "avr_eeprom.h"
#include "sim_cycle_timers.h"
#include "sim_elf.h"

enum { VCC_MV = 5000 };

avr_t *avr;
struct chip chip;

static void never_sleep(avr_t *its_avr, avr_cycle_count_t cycles) { /* the loop in avrpty.c keeps the time */
    (void)its_avr;
    (void)cycles;
}

void chip_load(const char *path) {
    static elf_firmware_t image;
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
    avr->sleep = never_sleep;
    uart_attach();
}

int chip_set_id(const char *digits) {
    unsigned char bytes[9];
    avr_eeprom_desc_t eeprom = {bytes, 0, sizeof bytes};
    if (from_hex(digits, bytes, 8) != 8) return 0;
    bytes[8] = 0x5a;
    for (int i = 0; i < 8; i++) bytes[8] ^= bytes[i];
    avr_ioctl(avr, AVR_IOCTL_EEPROM_SET, &eeprom);
    return 1;
}

void chip_reset(void) {
    avr_reset(avr);
    avr->state = cpu_Running;
    chip.hanging = 0;
    chip.boot_until = avr->cycle + chip.boot_time;
    uart_reset();
    pins_forget();
}

int chip_is_deaf(void) { return (chip.hanging && !chip.paused) || avr->cycle < chip.boot_until; }

static avr_cycle_count_t wake(avr_t *its_avr, avr_cycle_count_t when, void *unused) {
    (void)its_avr;
    (void)when;
    (void)unused;
    return 0;
}

void chip_run_until(avr_cycle_count_t end) {
    if (end <= avr->cycle) return;
    if (chip.hanging || chip.paused || avr->cycle < chip.boot_until) {
        avr->cycle = end; /* only the clock moves */
        return;
    }
    avr_cycle_timer_register(avr, end - avr->cycle, wake, NULL); /* a chip that sleeps would sleep past it */
    while (avr->cycle < end) {
        int state = avr_run(avr);
        if (state == cpu_Done || state == cpu_Crashed) {
            say("crash");
            chip_reset();
            return;
        }
    }
}
