/* What a hand, the weather or a bad line does to a board, as requests of one line (avrpty.c lists them). */
#include "emulator.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FLIPPED = 0x10 };

int quit_requested;

static void tell_statistics(void) {
    const char *between = "", *kind;
    printf("{\"pins\": {");
    for (int pin = FIRST_PIN; pin < PINS; pin++) {
        int value = pin_driven(pin, &kind);
        if (value < 0) continue;
        printf("%s\"%d\": %d", between, pin, value);
        between = ", ";
    }
    say("}, \"bytes_in\": %lu, \"bytes_out\": %lu, \"bytes_lost\": %lu, \"milliseconds\": %llu, \"byte_microseconds\": %g}",
        uart.bytes_in, uart.bytes_out, uart.bytes_lost, (unsigned long long)(avr->cycle / MILLISECOND),
        (double)uart_byte_time() / (HZ / 1000000));
}

static int say_noise(const char *digits) {
    unsigned char bytes[256];
    int count = from_hex(digits, bytes, sizeof bytes);
    for (int i = 0; i < count; i++) uart_say(bytes[i]);
    return count >= 0;
}

/* 0: there is no such request, or it doesn't fit now. */
static int act(const char *word, int number, int value, const char *text) {
    if (!strcmp(word, "set")) return pin_set(number, value);
    if (!strcmp(word, "temperature")) return pin_set_temperature(number, value);
    if (!strcmp(word, "noise")) return say_noise(text);
    if (!strcmp(word, "dtr")) {
        chip.reset_at_open = number != 0;
    } else if (!strcmp(word, "boot") && number >= 0) {
        chip.boot_time = (avr_cycle_count_t)MILLISECOND * (avr_cycle_count_t)number;
    } else if (!strcmp(word, "reset")) {
        chip_reset();
    } else if (!strcmp(word, "unplug")) {
        uart_unplug();
    } else if (!strcmp(word, "plug") && uart.line.master < 0) {
        uart_plug();
        chip_reset();
    } else if (!strcmp(word, "hang")) {
        chip.hanging = 1;
    } else if (!strcmp(word, "resume")) {
        chip.hanging = 0;
    } else if (!strcmp(word, "pause")) {
        chip.paused = 1;
    } else if (!strcmp(word, "run")) {
        chip.paused = 0;
    } else if (!strcmp(word, "harm")) {
        *(strcmp(text, "in") ? &uart.harm_out : &uart.harm_in) = FLIPPED;
    } else if (!strcmp(word, "quit")) {
        quit_requested = 1;
    } else {
        return 0;
    }
    return 1;
}

void obey(char *request) {
    char word[16] = "", text[600] = "";
    const char *kind;
    int value = 0, found = sscanf(request, "%15s %599s %d", word, text, &value), number = atoi(text);
    int takes_value = !strcmp(word, "set") || !strcmp(word, "temperature");
    if (!strcmp(word, "stats")) {
        tell_statistics();
    } else if (!strcmp(word, "get") && found == 2 && number >= FIRST_PIN && number < PINS) {
        pins_show();
        value = pin_driven(number, &kind);
        if (value < 0)
            say("{\"pin\": %d, \"value\": null}", number);
        else
            say("{\"pin\": %d, \"value\": %d}", number, value);
    } else if ((takes_value && found < 3) || !act(word, number, value, text)) {
        say("{\"error\": \"unknown request, or it doesn't fit now\"}");
    } else {
        say("{\"ok\": true}");
    }
}
