// Random bytes and random commands into a board, under sanitizers.
//
//   fuzz [SECONDS [SEED]]
//
// Two rules must hold, whatever comes: what the board says is whole commands that a board may send; and a whole command
// sent to a board that stands at a command's first byte is answered exactly once. With clang this also is a target for
// libFuzzer (-fsanitize=fuzzer -DWITH_LIBFUZZER).

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <new>

#include "bench_backend.h"
#include "board.h"
#include "generated.h"

namespace {

alignas(mf::Board) unsigned char memory[sizeof(mf::Board)];
mf::Board *board = nullptr;
bool checks = false;  // what the board says has checksums, from where it was last looked at

void fail(const char *rule) {
    fprintf(stderr, "broken: %s; said:", rule);
    for (size_t i = 0; i < bench::said.size(); i++) fprintf(stderr, i % 10 ? "%02x" : " %02x", bench::said[i]);
    fputc(10, stderr);
    abort();
}

void fresh() {
    if (board) board->~Board();
    board = new (memory) mf::Board;
    bench::said.clear();
    board->start(bench::now_ms);
    bench::said.clear();
    checks = false;
}

bool may_be_said(const uint8_t *frame) {
    const uint8_t command = frame[1];
    return command == mf::kCommunicationOpen || (command >= mf::kNetworkStopped && command <= mf::kNetworkStatus) ||
           (command >= mf::kDescription && command <= mf::kCounted);
}

// What is said of an opening, which turned checksums off.
bool of_opening(const uint8_t *frame) {
    const bool comment = frame[1] == mf::kDebugMessage && frame[2] == mf::kLevelDetailed && frame[3] == mf::kMagicMatched;
    return frame[1] == mf::kCommunicationOpen || comment;
}

// How many of what was said are answers to this id; checks all of it.
int answers(uint8_t id) {
    int count = 0;
    size_t at = 0;
    while (at < bench::said.size()) {
        const size_t left = bench::said.size() - at;
        const uint8_t *frame = &bench::said[at];
        if (left < mf::kCommandSize) fail("whole commands");
        if (of_opening(frame)) checks = false;
        if (checks && left < mf::kCheckedSize) fail("whole commands with checksums");
        if (checks && frame[mf::kCommandSize] != mf::command_checksum(frame)) fail("good checksums");
        if (!may_be_said(frame)) fail("a command that a board may send");
        if (id && frame[0] == id) count++;
        at += checks ? mf::kCheckedSize : mf::kCommandSize;
        if (frame[1] == mf::kExtended) checks = frame[2] & mf::kChecksums;
    }
    bench::said.clear();
    return count;
}

void feed(const uint8_t *bytes, size_t count) {
    for (size_t i = 0; i < count; i++) board->receive(bytes[i], bench::now_ms);
}

void open() {
    const uint8_t opening[] = {'m', 'i', 'c', 'r', 'o', 'f', 'l', 'o', '1', 250};
    const uint8_t answer[mf::kCommandSize] = {250, mf::kCommunicationOpen};
    feed(opening, sizeof opening);
    size_t at = bench::said.size();  // behind the answer there may be packets, all of the usual size
    do {
        if (at < sizeof answer) fail("an opening is answered, wherever it stands");
        at -= sizeof answer;
    } while (memcmp(&bench::said[at], answer, sizeof answer));
    answers(0);
}

uint32_t any() { return static_cast<uint32_t>(random()); }

uint8_t any_command() {
    static const uint8_t often[] = {mf::kCreateComponent, mf::kCreateComponent, mf::kConnectNodes, mf::kConnectNodes,
                                    mf::kSendPacket,      mf::kSendPacket,      mf::kSubscribeToPort};
    const uint32_t kind = any() % 8;
    if (kind < 5) return often[any() % sizeof often];
    if (kind < 7) return static_cast<uint8_t>(10 + any() % 16);
    return static_cast<uint8_t>(any() % 4 ? mf::kDescribe + any() % 4 : any());
}

// A command that makes sense more often than pure chance would have it.
void one_command() {
    uint8_t unit[mf::kCommandSize] = {static_cast<uint8_t>(1 + any() % 249), any_command()};
    for (uint8_t i = 2; i < mf::kCommandSize; i++) unit[i] = static_cast<uint8_t>(any() % 3 ? any() % 12 : any());
    if (unit[1] == mf::kCreateComponent && any() % 4) {
        unit[2] = mf::kComponentShapes[any() % mf::kComponentCount][0];
        unit[3] = 0;
    }
    if (unit[1] == mf::kEnd && any() % 8) unit[1] = mf::kStartNetwork;
    if (unit[1] == mf::kConfigureDebug) unit[2] = static_cast<uint8_t>(any() % 4);
    if (unit[1] == mf::kExtend) unit[2] &= static_cast<uint8_t>(~mf::kChecksums);  // here commands have ten bytes
    if (unit[1] == mf::kClearNodes && any() % 16) unit[1] = mf::kGrant;
    feed(unit, sizeof unit);
    if (answers(unit[0]) != 1) fail("a command is answered once");
    if (unit[1] == mf::kEnd) open();
}

void some_bytes() {
    uint8_t bytes[64];
    const size_t count = any() % sizeof bytes;
    for (size_t i = 0; i < count; i++) bytes[i] = static_cast<uint8_t>(any() % 4 ? any() : static_cast<uint8_t>("microflo1"[any() % 9]));
    feed(bytes, count);
    open();  // by chance it may have turned checksums on, so that ten bytes are no command any more
}

void round_of(int steps) {
    fresh();
    open();
    for (int i = 0; i < steps; i++) {
        if (any() % 16)
            one_command();
        else
            some_bytes();
        bench::now_ms += any() % 50;
        board->turn(bench::now_ms);
        answers(0);
    }
}

}  // namespace

#ifdef WITH_LIBFUZZER

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fresh();
    open();
    feed(data, size);
    board->turn(bench::now_ms += 300);
    answers(0);
    open();
    return 0;
}

#else

int main(int count, char **arguments) {
    const double seconds = count > 1 ? atof(arguments[1]) : 5;
    const unsigned seed = count > 2 ? static_cast<unsigned>(atoi(arguments[2])) : 1;
    const clock_t end = clock() + static_cast<clock_t>(seconds * CLOCKS_PER_SEC);
    unsigned rounds = 0;
    while (clock() < end) {
        srandom(seed + rounds);
        round_of(400);
        rounds++;
    }
    printf("%u rounds from seed %u\n", rounds, seed);
}

#endif
