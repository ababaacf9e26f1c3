// A backend for tests on the development machine: what the board says is kept, clock and pins are set by hand.
#pragma once

#include <stdint.h>

#include <map>
#include <vector>

namespace bench {

extern std::vector<uint8_t> said;
extern uint32_t now_ms;
extern std::map<int, int32_t> inputs;
extern std::map<int, int32_t> outputs;

}  // namespace bench
