// What the components do. Their numbers and ports are generated from components.json, the same file that the simulator
// and the host read.
#pragma once

#include "network.h"

namespace mf {

// How many ports a component has; they are numbered from 0.
struct Shape {
    uint8_t inports;
    uint8_t outports;
};

// False for a number that is no component of this build.
bool find_shape(uint8_t component, Shape *shape);
uint8_t inports(uint8_t component);

// How many words of state a node of this component has. They are zero before start_component.
uint8_t state_words(uint8_t component);
void start_component(Network &network, uint8_t node, uint8_t component);

// A packet arrived at an inport.
void receive(Network &network, uint8_t node, uint8_t component, uint8_t port, const Packet &packet, uint32_t now_ms);

// Whether this node is a timer that runs, and how long until it is due.
bool timer_wait(const Network &network, uint8_t node, uint8_t component, uint32_t now_ms, uint32_t *wait_ms);
void timer_due(Network &network, uint8_t node, uint32_t now_ms);

}  // namespace mf
