// A MicroFlo board: bytes from the host go in, what it says goes out through the backend.
#pragma once

#include "network.h"
#include "parser.h"

namespace mf {

// Silence of the host after which the network doesn't wait for its credit any more: what a board does by itself must not
// end with its host.
constexpr uint16_t kSilentHostMs = 10000;

class Board {
  public:
    Board() : network_(voice_) {}

    // Obey the graph that is built in, without a word. Once, at the start.
    void start(uint32_t now_ms);

    // One byte from the host. A turn of the network follows every whole command.
    void receive(uint8_t byte, uint32_t now_ms);

    // Call again and again while no byte waits: the network's turns, and the end of waiting for half a command.
    void turn(uint32_t now_ms);

    // Whether nothing is to be done now; then *wait_ms is how long at most, if no byte comes.
    bool at_rest(uint32_t now_ms, uint32_t *wait_ms) const { return network_.at_rest(now_ms, wait_ms); }

  private:
    void opened(uint8_t request_id);
    void execute(const uint8_t *command);
    Point obey(const uint8_t *command);
    Point create(const uint8_t *command);
    Point connect(const uint8_t *command);
    Point send_packet(const uint8_t *command);
    Point subgraph(const uint8_t *arguments) const;
    Point set_io_value(const uint8_t *command);
    void describe(const uint8_t *command);
    void extend(const uint8_t *command);
    void grant(const uint8_t *command);
    void counters(const uint8_t *command);
    void count_packets(uint8_t *told) const;
    void count_damage(uint8_t *told) const;

    Voice voice_;
    Network network_;
    Parser parser_;
    uint8_t start_problem_ = kNoPoint;
    uint16_t bad_checksums_ = 0;  // these since the start
    uint16_t half_commands_ = 0;
    uint16_t refused_sends_ = 0;
    bool own_graph_ = false;  // the graph that is built in still is the one on the board
};

}  // namespace mf
