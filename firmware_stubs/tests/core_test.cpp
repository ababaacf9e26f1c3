// Unit tests of the core, built with sanitizers. Prints the name of each, and ends with 1 at the first that fails.

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <functional>
#include <initializer_list>
#include <memory>
#include <string>

#include "bench_backend.h"
#include "board.h"
#include "components.h"
#include "generated.h"

namespace {

using mf::Packet;

#define CHECK(condition)                                                                \
    do {                                                                                \
        if (!(condition)) {                                                             \
            printf("%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);              \
            exit(1);                                                                    \
        }                                                                               \
    } while (0)

struct Frame {
    uint8_t id, command;
    uint8_t arguments[mf::kArguments];
};

// A board, and the frames it says.
class Bench {
  public:
    Bench() : board_(new mf::Board) {
        bench::said.clear();
        bench::inputs.clear();
        bench::outputs.clear();
    }

    void bytes(const std::string &text) {
        for (char c : text) board_->receive(static_cast<uint8_t>(c), bench::now_ms);
    }

    void open() {
        bytes("microflo1\xc8");
        CHECK(frames().back().command == mf::kCommunicationOpen);
    }

    Frame ask(uint8_t command, std::initializer_list<int> arguments = {}) {
        std::string unit = {7, static_cast<char>(command)};
        for (int argument : arguments) unit += static_cast<char>(argument);
        unit.resize(mf::kCommandSize);
        bytes(unit);
        for (const Frame &frame : frames())
            if (frame.id == 7) return frame;
        CHECK(!"answered");
        abort();
    }

    void turn(int times = 1) {
        while (times--) board_->turn(bench::now_ms);
    }

    std::vector<Frame> frames() {
        CHECK(bench::said.size() % mf::kCommandSize == 0);
        std::vector<Frame> found(bench::said.size() / mf::kCommandSize);
        if (!found.empty()) memcpy(found.data(), bench::said.data(), bench::said.size());
        bench::said.clear();
        return found;
    }

    std::vector<Packet> packets() {
        std::vector<Packet> found;
        for (const Frame &frame : frames()) {
            Packet packet;
            if (frame.command != mf::kPacketSent) continue;
            CHECK(mf::unpack(frame.arguments[3], frame.arguments + 4, &packet));
            found.push_back(packet);
        }
        return found;
    }

    // A running node of this component whose first outport is reported.
    void node(uint8_t component) {
        open();
        CHECK(ask(mf::kCreateComponent, {component, 0}).command == mf::kNodeAdded);
        CHECK(ask(mf::kSubscribeToPort, {1, 0, 1}).command == mf::kPortSubscriptionChanged);
        CHECK(ask(mf::kStartNetwork).command == mf::kNetworkStarted);
    }

    // Send a packet to node 1 and let it work; what its first outport said.
    std::vector<Packet> feed(uint8_t port, const Packet &packet) {
        uint8_t data[4];
        mf::pack(packet, data);
        std::string unit = {9, mf::kSendPacket, 1, static_cast<char>(port), static_cast<char>(packet.type)};
        unit.append(reinterpret_cast<char *>(data), 4);
        unit.resize(mf::kCommandSize);
        bytes(unit);
        turn(3);
        return packets();
    }

    mf::Board &board() { return *board_; }

  private:
    std::unique_ptr<mf::Board> board_;
};

Packet floating(float value) {
    Packet packet = {mf::kFloat, 0};
    memcpy(&packet.bits, &value, sizeof value);
    return packet;
}

int32_t whole(const std::vector<Packet> &packets) {
    CHECK(packets.size() == 1);
    return mf::as_integer(packets[0]);
}

void floats_become_whole_numbers_within_32_bits() {
    CHECK(mf::as_integer(floating(2.9f)) == 2);
    CHECK(mf::as_integer(floating(-2.9f)) == -2);
    CHECK(mf::as_integer(floating(1e20f)) == INT32_MAX);
    CHECK(mf::as_integer(floating(-1e20f)) == INT32_MIN);
    CHECK(mf::as_integer(floating(NAN)) == 0);
    CHECK(mf::as_integer(floating(INFINITY)) == INT32_MAX);
    CHECK(mf::as_integer(floating(-INFINITY)) == INT32_MIN);
    CHECK(!mf::as_boolean(floating(-0.0f)) && mf::as_boolean(floating(0.1f)));
}

// The same as Python's whole-number division, which the simulator uses.
void a_range_is_mapped_at_its_extremes_too() {
    struct {
        int32_t value, in_min, in_max, out_min, out_max, expected;
    } const cases[] = {
        {512, 0, 1023, 0, 255, 127},
        {-1, 0, 1023, 0, 255, -1},  // rounded down, not towards zero
        {5, 7, 7, 42, 99, 42},
        {INT32_MAX, INT32_MIN, INT32_MAX, INT32_MIN, INT32_MAX, INT32_MAX},
        {INT32_MIN, INT32_MAX, INT32_MIN, INT32_MIN, INT32_MAX, INT32_MAX},
        {INT32_MAX, 0, 1, INT32_MIN, INT32_MAX, INT32_MAX},
        {INT32_MIN, 0, 1, INT32_MIN, INT32_MAX, INT32_MIN},
        {INT32_MAX, 0, -1, INT32_MIN, INT32_MAX, INT32_MIN},
        {2, 0, 1, INT32_MIN, 0, INT32_MAX},
        {1, 0, 1, INT32_MIN, -1, -1},
    };
    for (const auto &at : cases) {
        Bench bench;
        bench.node(mf::kMapLinear);
        bench.feed(mf::MapLinear::in_inmin, mf::integer_packet(at.in_min));
        bench.feed(mf::MapLinear::in_inmax, mf::integer_packet(at.in_max));
        bench.feed(mf::MapLinear::in_outmin, mf::integer_packet(at.out_min));
        bench.feed(mf::MapLinear::in_outmax, mf::integer_packet(at.out_max));
        CHECK(whole(bench.feed(mf::MapLinear::in_in, mf::integer_packet(at.value))) == at.expected);
    }
}

void a_timer_runs_on_when_the_clock_wraps_round() {
    bench::now_ms = UINT32_MAX - 250;
    Bench bench;
    bench.node(mf::kTimer);
    bench.feed(mf::Timer::in_interval, mf::integer_packet(100));
    int count = 0;
    for (int step = 0; step < 100; step++) {
        bench::now_ms += 10;
        bench.turn(2);
        count += static_cast<int>(bench.packets().size());
    }
    CHECK(count == 10);
}

void a_timer_makes_up_for_a_second_and_not_for_more() {
    bench::now_ms = 0;
    Bench bench;
    bench.node(mf::kTimer);
    bench.feed(mf::Timer::in_interval, mf::integer_packet(100));
    bench::now_ms += 900;
    bench.turn(40);
    CHECK(bench.packets().size() == 9);
    bench::now_ms += 60000;
    bench.turn(40);
    CHECK(bench.packets().size() == 1);
    bench.feed(mf::Timer::in_interval, mf::integer_packet(-1));
    bench::now_ms += 1000;
    bench.turn(5);
    CHECK(bench.packets().empty());
}

void at_rest_tells_how_long() {
    bench::now_ms = 5;
    Bench bench;
    uint32_t wait_ms = 0;
    bench.node(mf::kTimer);
    CHECK(bench.board().at_rest(bench::now_ms, &wait_ms) && wait_ms == 1000);
    bench.feed(mf::Timer::in_interval, mf::integer_packet(100));
    CHECK(bench.board().at_rest(bench::now_ms, &wait_ms) && wait_ms == 100);
    CHECK(!bench.board().at_rest(bench::now_ms + 100, &wait_ms));
}

void half_a_command_is_given_up_once() {
    bench::now_ms = 0;
    Bench bench;
    bench.open();
    bench.bytes("\x01\x12");
    bench::now_ms = mf::kPartialCommandMs - 1;
    bench.turn();
    CHECK(bench.frames().empty());
    bench::now_ms = mf::kPartialCommandMs;
    bench.turn(3);
    CHECK(bench.frames().size() == 1);
    CHECK(bench.ask(mf::kPing, {1, 2}).arguments[1] == 2);
}

void state_is_fresh_after_a_clear() {
    Bench bench;
    bench.node(mf::kCount);
    CHECK(whole(bench.feed(0, mf::void_packet())) == 1);
    CHECK(whole(bench.feed(0, mf::void_packet())) == 2);
    bench.ask(mf::kClearNodes);
    bench.node(mf::kCount);
    CHECK(whole(bench.feed(0, mf::void_packet())) == 1);
}

void a_pool_that_is_used_up_refuses_and_the_rest_works() {
    Bench bench;
    bench.open();
    int made = 0;
    while (bench.ask(mf::kCreateComponent, {mf::kSplit, 0}).command == mf::kNodeAdded) made++;
    CHECK(made == mf::kOutports / 9);
    CHECK(bench.ask(mf::kCreateComponent, {mf::kSplit, 0}).arguments[0] == mf::kOutOfRoom);
    CHECK(bench.ask(mf::kSubscribeToPort, {made, 8, 1}).command == mf::kPortSubscriptionChanged);
    bench.ask(mf::kClearNodes);
    made = 0;
    while (bench.ask(mf::kCreateComponent, {mf::kMapLinear, 0}).command == mf::kNodeAdded) made++;
    CHECK(made == mf::kStateWords / 4 || made == mf::kNodes);
}

void the_own_graph_is_obeyed_in_silence() {
    Bench bench;
    bench.board().start(0);
    const auto told = bench.frames();
    CHECK(told.size() == 1 && told[0].command == mf::kDebugMessage && told[0].arguments[1] == mf::kProgramStart);
    bench.bytes("\x01\x12");  // closed again after it
    CHECK(bench.frames().empty());
    bench.open();
    CHECK(bench.ask(mf::kGetNetworkStatus).arguments[0] == 1);
}

// A node that sends on what it gets, subscribed to, with credit turned on and none given.
void without_credit(Bench *bench) {
    bench::now_ms = 0;
    bench->node(mf::kForward);
    CHECK(bench->ask(mf::kExtend, {mf::kEventCredit}).arguments[0] == mf::kEventCredit);
    CHECK(bench->feed(0, mf::void_packet()).empty());
}

void a_board_does_not_wait_for_a_host_that_has_died() {
    Bench bench;
    without_credit(&bench);
    bench::now_ms = mf::kSilentHostMs - 1;
    bench.turn(5);
    CHECK(bench.packets().empty());
    bench::now_ms = mf::kSilentHostMs;
    bench.turn(5);
    CHECK(bench.packets().size() == 1);
    CHECK(bench.feed(0, mf::void_packet()).empty());  // it lives: its credit counts again
    bench.bytes(std::string("\x08\x5c\x03", 3) + std::string(7, 0));  // a grant
    bench.turn(5);
    CHECK(bench.packets().size() == 1);
}

void a_host_with_credit_is_told_what_room_there_is() {
    Bench bench;
    without_credit(&bench);  // two packets wait for credit: what it was sent, and what comes of it
    const int room = bench.ask(mf::kGrant, {0, 0}).arguments[2];
    CHECK(room == mf::kMessages - 1);
    CHECK(bench.ask(mf::kSendPacket, {1, 0, mf::kVoid}).arguments[3] == room - 1);
    bench.ask(mf::kExtend, {0});
    CHECK(bench.ask(mf::kSendPacket, {1, 0, mf::kVoid}).arguments[3] == 0);
}

void what_goes_wrong_is_counted() {
    bench::now_ms = 0;
    Bench bench;
    bench.node(mf::kForward);
    bench.ask(mf::kStopNetwork);
    int refused = 0;
    for (int i = 0; i < mf::kMessages + 3; i++) {
        refused += bench.ask(mf::kSendPacket, {1, 0, mf::kVoid}).command == mf::kError;
    }
    CHECK(refused == 3);
    bench.bytes("\x01\x12");
    bench::now_ms = mf::kPartialCommandMs;
    bench.turn();
    bench.ask(mf::kExtend, {mf::kChecksums});
    bench.bytes("12345678901");
    bench::said.clear();  // its report has a checksum too
    bench.open();
    const Frame counted = bench.ask(mf::kCounters, {1});
    CHECK(counted.arguments[0] == 1 && counted.arguments[2] == 1 && counted.arguments[4] == 3);
    CHECK(bench.ask(mf::kCounters, {2}).arguments[0] == 0);
}

void every_component_takes_every_packet_on_every_port() {
    const Packet packets[] = {mf::void_packet(),         mf::integer_packet(INT32_MIN), mf::integer_packet(INT32_MAX),
                              mf::integer_packet(3),     mf::boolean_packet(true),      floating(NAN),
                              floating(1e30f),           Packet{mf::kByte, 255},        Packet{mf::kErrorPacket, 255},
                              Packet{mf::kBracketStart, 0}, Packet{mf::kBracketEnd, 0}};
    for (const auto &shape : mf::kComponentShapes) {
        Bench bench;
        bench.node(shape[0]);
        for (int round = 0; round < 3; round++) {
            for (uint8_t port = 0; port < shape[1]; port++) {
                for (const Packet &packet : packets) {
                    bench.feed(port, packet);
                    bench::now_ms += 1000;
                }
            }
        }
    }
}

}  // namespace

int main() {
#define RUN(test)      \
    puts(#test);       \
    fflush(stdout);    \
    test()
    RUN(floats_become_whole_numbers_within_32_bits);
    RUN(a_range_is_mapped_at_its_extremes_too);
    RUN(a_timer_runs_on_when_the_clock_wraps_round);
    RUN(a_timer_makes_up_for_a_second_and_not_for_more);
    RUN(at_rest_tells_how_long);
    RUN(half_a_command_is_given_up_once);
    RUN(state_is_fresh_after_a_clear);
    RUN(a_pool_that_is_used_up_refuses_and_the_rest_works);
    RUN(the_own_graph_is_obeyed_in_silence);
    RUN(a_board_does_not_wait_for_a_host_that_has_died);
    RUN(a_host_with_credit_is_told_what_room_there_is);
    RUN(what_goes_wrong_is_counted);
    RUN(every_component_takes_every_packet_on_every_port);
    puts("all good");
}
