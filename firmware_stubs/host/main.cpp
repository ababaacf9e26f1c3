// The board as a Linux process: the protocol on a pty, pins that are set and read by requests on stdin.
//
//   microflo-host [LINK] [--id HEX]
//
// Prints "ready PTY", then a line for every pin that changes. A request a line, answered by one line of JSON:
//   set PIN VALUE | get PIN | stats | reset | unplug | plug | noise HEX | quit
//   hang (it stands still, and what comes is lost: until resume, or a reset) | resume
//   pause (it and its clock stand still, and what comes waits) | run
//   harm in|out    a bit of the next byte that way is turned over
// End of stdin ends it, so that nothing is left of a test that was killed.

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <new>

#include "backend.h"
#include "board.h"
#include "line.h"

namespace {

constexpr uint32_t kBacklog = 4095;  // unread by the host at which the board stands still, as stock firmware does
constexpr uint16_t kPins = 256;

line wire = {-1, -1, 1, nullptr, {}};
mf::Board board;
uint8_t out[65536];
uint32_t out_count = 0;
uint8_t id[8];
volatile sig_atomic_t ended = 0;
bool hanging = false;
bool paused = false;
uint8_t harm_in = 0, harm_out = 0;
uint64_t pause_began_ms = 0;
uint64_t skipped_ms = 0;
uint64_t started_ms = 0;

struct Pin {
    int32_t input;
    int32_t output;
    uint32_t writes;
    bool is_set;      // from outside
    bool is_written;  // by the board
};
Pin pins[kPins];

uint64_t real_ms() {
    timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<uint64_t>(now.tv_sec) * 1000 + static_cast<uint64_t>(now.tv_nsec) / 1000000;
}

void write_pin(uint8_t pin, int32_t value, const char *kind) {
    Pin &at = pins[pin];
    at.writes++;
    if (at.is_written && at.output == value) return;
    at.is_written = true;
    at.output = value;
    say("pin %d %d %s", pin, value, kind);
}

void flush() {
    if (wire.master < 0) {
        out_count = 0;
        return;
    }
    while (out_count) {
        const ssize_t written = write(wire.master, out, out_count);
        if (written <= 0) return;
        out_count -= static_cast<uint32_t>(written);
        memmove(out, out + written, out_count);
    }
}

bool stands_still() { return hanging || paused || wire.master < 0 || out_count >= kBacklog; }

void restart() {
    hanging = false;
    out_count = 0;
    board.~Board();
    new (&board) mf::Board();
    board.start(backend::millis());
}

void tell_statistics() {
    printf("{\"pins\": {");
    const char *between = "";
    for (int pin = 0; pin < kPins; pin++) {
        if (!pins[pin].is_written) continue;
        printf("%s\"%d\": %d", between, pin, pins[pin].output);
        between = ", ";
    }
    printf("}, \"pin_writes\": {");
    between = "";
    for (int pin = 0; pin < kPins; pin++) {
        if (!pins[pin].writes) continue;
        printf("%s\"%d\": %u", between, pin, pins[pin].writes);
        between = ", ";
    }
    say("}, \"unread\": %u}", out_count);
}

bool obey_words(const char *word, int pin, long value, const char *text) {
    if (!strcmp(word, "set")) {
        if (!backend::simulate_input(static_cast<uint8_t>(pin), static_cast<int32_t>(value))) return false;
    } else if (!strcmp(word, "reset")) {
        restart();
    } else if (!strcmp(word, "unplug")) {
        line_unplug(&wire);
    } else if (!strcmp(word, "plug") && wire.master < 0) {
        line_plug(&wire);
        restart();
    } else if (!strcmp(word, "hang")) {
        hanging = true;
    } else if (!strcmp(word, "resume")) {
        hanging = false;
    } else if (!strcmp(word, "pause") && !paused) {
        pause_began_ms = real_ms();
        paused = true;
    } else if (!strcmp(word, "run") && paused) {
        skipped_ms += real_ms() - pause_began_ms;
        paused = false;
    } else if (!strcmp(word, "noise")) {
        uint8_t bytes[256];
        const int count = from_hex(text, bytes, sizeof bytes);
        if (count < 0) return false;
        backend::send(bytes, static_cast<uint8_t>(count));
    } else if (!strcmp(word, "harm")) {
        (strcmp(text, "in") ? harm_out : harm_in) = 0x10;
    } else if (!strcmp(word, "quit")) {
        ended = 1;
    } else {
        return false;
    }
    return true;
}

void obey(char *request) {
    char word[16] = "", text[600] = "";
    long value = 0;
    const int found = sscanf(request, "%15s %599s %ld", word, text, &value);
    const int pin = atoi(text);
    if (!strcmp(word, "stats")) return tell_statistics();
    if ((!strcmp(word, "set") && found < 3) || pin < 0 || pin >= kPins) word[0] = 0;
    if (!strcmp(word, "get") && found == 2) {
        if (pins[pin].is_written) return say("{\"pin\": %d, \"value\": %d}", pin, pins[pin].output);
        return say("{\"pin\": %d, \"value\": null}", pin);
    }
    if (obey_words(word, pin, value, text)) return say("{\"ok\": true}");
    say("{\"error\": \"unknown request, or it doesn't fit now\"}");
}

void stop(int) { ended = 1; }

// An id that is the same for the same place.
void make_id(const char *place) {
    uint64_t hash = 14695981039346656037u;  // FNV-1a
    for (; *place; place++) hash = (hash ^ static_cast<uint8_t>(*place)) * 1099511628211u;
    for (int i = 0; i < 8; i++) id[i] = static_cast<uint8_t>(hash >> (8 * i));
}

// Feed what is there; a board hears nothing while it stands still.
void listen() {
    uint8_t bytes[256];
    const ssize_t count = read(wire.master, bytes, sizeof bytes);
    if (hanging) return;
    if (count > 0) {
        bytes[0] = static_cast<uint8_t>(bytes[0] ^ harm_in);
        harm_in = 0;
    }
    for (ssize_t i = 0; i < count; i++) board.receive(bytes[i], backend::millis());
}

bool more_to_hear() {
    pollfd watched = {wire.master, POLLIN, 0};
    return poll(&watched, 1, 0) > 0 && (watched.revents & POLLIN);
}

void serve() {
    bool heard = false;
    while (!ended) {
        uint32_t wait_ms = 1000;
        const bool rest = stands_still() || board.at_rest(backend::millis(), &wait_ms);
        const bool deaf = paused || out_count >= kBacklog;
        pollfd watched[2] = {{0, POLLIN, 0}, {wire.master, 0, 0}};
        watched[1].events = static_cast<short>((deaf ? 0 : POLLIN) | (out_count ? POLLOUT : 0));
        // Half a command is given up after a while, so look again soon after bytes came.
        const int timeout = !rest ? 0 : static_cast<int>(heard && wait_ms > 300 ? 300 : wait_ms);
        if (poll(watched, 2, timeout) < 0 && errno != EINTR) return;
        if (watched[0].revents && !requests_read(obey)) return;
        heard = wire.master >= 0 && (watched[1].revents & POLLIN) && !deaf;
        if (heard) listen();
        // Its turn comes before its answer is out: else a fast host's next request could be answered first.
        if (!stands_still() && !(heard && more_to_hear())) board.turn(backend::millis());
        flush();
    }
}

}  // namespace

namespace backend {

void send(const uint8_t *bytes, uint8_t count) {
    if (wire.master < 0) return;
    while (out_count + count > sizeof out) {  // the board stands still long before; only a burst comes here
        pollfd watched = {wire.master, POLLOUT, 0};
        poll(&watched, 1, 100);
        flush();
    }
    memcpy(out + out_count, bytes, count);
    out[out_count] = static_cast<uint8_t>(out[out_count] ^ harm_out);
    harm_out = 0;
    out_count += count;
}

uint32_t millis() {
    const uint64_t now = paused ? pause_began_ms : real_ms();
    return static_cast<uint32_t>(now - started_ms - skipped_ms);
}

bool pin_usable(int32_t pin, PinUse) { return pin >= 0 && pin < kPins; }
bool digital_read(uint8_t pin) { return pins[pin].input != 0; }
void pull_up(uint8_t, bool) {}
void digital_write(uint8_t pin, bool on) { write_pin(pin, on, "digital"); }
int32_t analog_read(uint8_t pin) { return pins[pin].input; }
void pwm_write(uint8_t pin, uint8_t percent) { write_pin(pin, percent, "pwm"); }

// What was set, else a mild day that passes in two minutes: a parabola up and one down.
int32_t temperature(uint8_t pin, uint32_t now_ms) {
    if (pins[pin].is_set) return pins[pin].input;
    const int32_t half = 60000;
    const int32_t at = static_cast<int32_t>(now_ms % (2 * half));
    const int32_t x = at % half / 100;  // 0..599
    const int32_t bow = 150 * 4 * x * (600 - x) / (600 * 600);
    return at < half ? 2150 + bow : 2150 - bow;
}

bool simulate_input(uint8_t pin, int32_t value) {
    pins[pin].input = value;
    pins[pin].is_set = true;
    return true;
}

void unique_id(uint8_t to[8]) { memcpy(to, id, sizeof id); }
uint16_t lost_input() { return 0; }

}  // namespace backend

int main(int count, char **arguments) {
    make_id("microflo-host");
    for (int i = 1; i < count; i++) {
        if (!strcmp(arguments[i], "--id") && i + 1 < count) {
            if (from_hex(arguments[++i], id, sizeof id) != sizeof id) {
                fprintf(stderr, "--id takes 16 hexadecimal digits\n");
                return 2;
            }
        } else if (arguments[i][0] == '-' || wire.link) {
            fprintf(stderr, "usage: microflo-host [LINK] [--id HEX]\n");
            return 2;
        } else {
            wire.link = arguments[i];
            make_id(wire.link);
        }
    }
    signal(SIGTERM, stop);
    signal(SIGINT, stop);
    signal(SIGPIPE, SIG_IGN);
    started_ms = real_ms();
    line_plug(&wire);
    restart();
    say("ready %s", wire.path);
    serve();
    line_unplug(&wire);
    return 0;
}
