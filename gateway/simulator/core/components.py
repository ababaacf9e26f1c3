"""The components a simulated board has, by name. Numbers of components and ports come from the component map it is given."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.model.packet import INT32_MAX, INT32_MIN, Packet, PacketType

Send = Callable[[str, Packet], None]

VOID = Packet(PacketType.VOID)


def integer(value: int) -> Packet:
    """An INTEGER packet, held to 32 bit."""
    return Packet(PacketType.INTEGER, max(INT32_MIN, min(INT32_MAX, value)))


def boolean(value: bool) -> Packet:
    """A BOOLEAN packet."""
    return Packet(PacketType.BOOLEAN, value)


def number(packet: Packet) -> int:
    """What firmware makes of any packet where it wants an integer."""
    return int(packet.value) if packet.value is not None else 0


@dataclass
class Pins:
    """The board's pins as a person outside sees them: inputs can be set, outputs read. ``on_change`` is told of each."""

    inputs: dict[int, int] = field(default_factory=dict)
    outputs: dict[int, int] = field(default_factory=dict)
    writes: dict[int, int] = field(default_factory=dict)
    on_change: Callable[[int, int, str], None] = lambda pin, value, kind: None

    def write(self, pin: int, value: int, kind: str) -> None:
        """A component drives an output; ``kind`` is ``digital`` or ``pwm``."""
        self.writes[pin] = self.writes.get(pin, 0) + 1
        if self.outputs.get(pin) != value:
            self.outputs[pin] = value
            self.on_change(pin, value, kind)


class SimulatedComponent:
    """One node's behaviour: packets in by port name, packets out by ``send``. ``due`` is when it wants a tick."""

    due: float | None = None

    def __init__(self, send: Send, pins: Pins) -> None:
        self.send = send
        self.pins = pins

    def receive(self, port: str, packet: Packet, now: float) -> None:
        """A packet arrived at an inport."""

    def receive_odd(self, packet: Packet) -> None:
        """A packet arrived at a port that the component does not have: stock firmware hands it over all the same."""

    def setup(self) -> None:
        """The oldest generation's Setup packet: components that keep a state forget it."""

    def tick(self, now: float) -> None:
        """``due`` has come."""


class Forward(SimulatedComponent):
    """What comes in goes out."""

    def receive(self, port: str, packet: Packet, now: float) -> None:
        self.send("out", packet)

    def receive_odd(self, packet: Packet) -> None:
        self.send("", packet)  # on the outport of the same odd number, which there is not


class Split(SimulatedComponent):
    """A copy to each of nine outports."""

    def receive(self, port: str, packet: Packet, now: float) -> None:
        for n in range(1, 10):
            self.send(f"out{n}", packet)


class ToggleBoolean(SimulatedComponent):
    """Every packet turns the state over; ``reset`` turns it off."""

    state = False

    def receive(self, port: str, packet: Packet, now: float) -> None:
        self.state = not self.state if port == "in" else False
        self.send("out", boolean(self.state))

    def setup(self) -> None:
        self.state = False


class InvertBoolean(SimulatedComponent):
    """Not."""

    def receive(self, port: str, packet: Packet, now: float) -> None:
        self.send("out", boolean(not packet.value))


class BoolToInt(SimulatedComponent):
    """True is 1."""

    def receive(self, port: str, packet: Packet, now: float) -> None:
        self.send("out", integer(1 if packet.value else 0))


class Count(SimulatedComponent):
    """How many packets came since the last reset."""

    count = 0

    def receive(self, port: str, packet: Packet, now: float) -> None:
        self.count = self.count + 1 if port == "in" else 0
        self.send("out", integer(self.count))

    def setup(self) -> None:
        self.count = 0


class Timer(SimulatedComponent):
    """A Void packet every ``interval`` milliseconds."""

    interval_s = 0.0

    def receive(self, port: str, packet: Packet, now: float) -> None:
        if port == "interval":
            self.interval_s = max(0, number(packet)) / 1000
        self.due = now + self.interval_s if self.interval_s else None

    def tick(self, now: float) -> None:
        self.send("out", VOID)
        assert self.due is not None
        self.due += self.interval_s
        if self.due <= now - 1:  # the board stood still: it does not catch up
            self.due = now + self.interval_s


class _OnPin(SimulatedComponent):
    """A component that works on one pin."""

    pin: int | None = None

    def receive(self, port: str, packet: Packet, now: float) -> None:
        if port == "pin":
            self.pin = number(packet)
        elif self.pin is not None:
            self.act(self.pin, port, packet, now)

    def act(self, pin: int, port: str, packet: Packet, now: float) -> None:
        """A packet for a component whose pin is known."""


class DigitalRead(_OnPin):
    """The state of an input pin at each trigger."""

    def act(self, pin: int, port: str, packet: Packet, now: float) -> None:
        if port == "trigger":
            self.send("out", boolean(bool(self.pins.inputs.get(pin, 0))))


class AnalogRead(_OnPin):
    """The value of an input pin at each trigger, 0..1023."""

    def act(self, pin: int, port: str, packet: Packet, now: float) -> None:
        if port == "trigger":
            self.send("out", integer(self.pins.inputs.get(pin, 0)))


class DigitalWrite(_OnPin):
    """Switches an output pin, and tells the new state."""

    def act(self, pin: int, port: str, packet: Packet, now: float) -> None:
        if port == "in":
            self.pins.write(pin, int(bool(packet.value)), "digital")
            self.send("out", boolean(bool(packet.value)))


class PwmWrite(_OnPin):
    """Sets the duty cycle of an output pin, 0..100 %."""

    def act(self, pin: int, port: str, packet: Packet, now: float) -> None:
        if port == "dutycycle":
            self.pins.write(pin, max(0, min(100, number(packet))), "pwm")
            self.send("out", packet)


class MapLinear(SimulatedComponent):
    """From one range to another, in whole numbers."""

    def __init__(self, send: Send, pins: Pins) -> None:
        super().__init__(send, pins)
        self.range = {"inmin": 0, "inmax": 1023, "outmin": 0, "outmax": 255}

    def receive(self, port: str, packet: Packet, now: float) -> None:
        if port in self.range:
            self.range[port] = number(packet)
            return
        low, high = self.range["inmin"], self.range["inmax"]
        span = self.range["outmax"] - self.range["outmin"]
        value = self.range["outmin"] if high == low else (number(packet) - low) * span // (high - low)
        self.send("out", integer(value if high == low else value + self.range["outmin"]))


class Constrain(SimulatedComponent):
    """Held between ``lower`` and ``upper``."""

    def __init__(self, send: Send, pins: Pins) -> None:
        super().__init__(send, pins)
        self.limits = {"lower": 0, "upper": 1023}

    def receive(self, port: str, packet: Packet, now: float) -> None:
        if port in self.limits:
            self.limits[port] = number(packet)
        else:
            self.send("out", integer(max(self.limits["lower"], min(self.limits["upper"], number(packet)))))


class Gate(SimulatedComponent):
    """Passes what comes while ``enable`` is true."""

    open = False

    def receive(self, port: str, packet: Packet, now: float) -> None:
        if port == "enable":
            self.open = bool(packet.value)
        elif self.open:
            self.send("out", packet)


class HoldPacket(SimulatedComponent):
    """Keeps the newest ``data``, and sends it at each packet on ``in``."""

    held: Packet | None = None

    def receive(self, port: str, packet: Packet, now: float) -> None:
        if port == "data":
            self.held = packet
        elif self.held is not None:
            self.send("out", self.held)


class Route(SimulatedComponent):
    """Passes what comes on the inport whose number ``port`` named last."""

    chosen = 1

    def receive(self, port: str, packet: Packet, now: float) -> None:
        if port == "port":
            self.chosen = number(packet)
        elif port == f"in{self.chosen}":
            self.send("out", packet)


class _OfTwo(SimulatedComponent):
    """A function of ``a`` and ``b``, told anew when one of them comes and both are known."""

    def __init__(self, send: Send, pins: Pins) -> None:
        super().__init__(send, pins)
        self.values: dict[str, int] = {}

    def receive(self, port: str, packet: Packet, now: float) -> None:
        self.values[port] = number(packet)
        if len(self.values) == 2:
            self.send("out", self.result(self.values["a"], self.values["b"]))

    def result(self, a: int, b: int) -> Packet:
        """What goes out."""
        raise NotImplementedError


class BooleanAnd(_OfTwo):
    """Both."""

    def result(self, a: int, b: int) -> Packet:
        return boolean(bool(a and b))


class BooleanOr(_OfTwo):
    """One or both."""

    def result(self, a: int, b: int) -> Packet:
        return boolean(bool(a or b))


class NumberEquals(_OfTwo):
    """Whether they are the same number."""

    def result(self, a: int, b: int) -> Packet:
        return boolean(a == b)


class Max(SimulatedComponent):
    """No more than ``threshold``."""

    threshold = INT32_MAX

    def receive(self, port: str, packet: Packet, now: float) -> None:
        if port == "threshold":
            self.threshold = number(packet)
        else:
            self.send("out", integer(min(self.threshold, number(packet))))


class Min(SimulatedComponent):
    """No less than ``threshold``."""

    threshold = INT32_MIN

    def receive(self, port: str, packet: Packet, now: float) -> None:
        if port == "threshold":
            self.threshold = number(packet)
        else:
            self.send("out", integer(max(self.threshold, number(packet))))


class HysteresisLatch(SimulatedComponent):
    """True above the high threshold, false below the low one, unchanged between."""

    def __init__(self, send: Send, pins: Pins) -> None:
        super().__init__(send, pins)
        self.thresholds = {"lowthreshold": 0, "highthreshold": 0}
        self.state = False

    def receive(self, port: str, packet: Packet, now: float) -> None:
        if port in self.thresholds:
            self.thresholds[port] = number(packet)
            return
        value = number(packet)
        if value >= self.thresholds["highthreshold"]:
            self.state = True
        elif value <= self.thresholds["lowthreshold"]:
            self.state = False
        self.send("out", boolean(self.state))


class Thermometer(_OnPin):
    """Hundredths of a degree at each trigger: what its pin is set to, else a mild day that passes in two minutes."""

    def act(self, pin: int, port: str, packet: Packet, now: float) -> None:
        if port == "trigger":
            mild_day = 2150 + round(150 * math.sin(now / 120 * 2 * math.pi))
            self.send("out", integer(self.pins.inputs.get(pin, mild_day)))


COMPONENTS: dict[str, type[SimulatedComponent]] = {
    kind.__name__: kind
    for kind in (
        AnalogRead,
        BoolToInt,
        BooleanAnd,
        BooleanOr,
        Constrain,
        Count,
        DigitalRead,
        DigitalWrite,
        Forward,
        Gate,
        HoldPacket,
        HysteresisLatch,
        InvertBoolean,
        MapLinear,
        Max,
        Min,
        NumberEquals,
        PwmWrite,
        Route,
        Split,
        Thermometer,
        Timer,
        ToggleBoolean,
    )
}
