"""Participants of one side announced on the other: ``amqp.export`` and ``amqp.import``.

What is exported looks on AMQP like any MsgFlo worker: an exchange an outport, a queue an inport, named
``PREFIX ROLE.PORT`` with the port in upper case, and a discovery message. So a cloud that runs somebody else's coordinator
wires a board without knowing what it is. What is imported gets topics ``ROLE/PORT`` on MQTT in the same way.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from gateway.coordinator.core.delivery_contracts import EdgeSettings
from gateway.coordinator.core.registry import Registry
from gateway.model.address import Address, amqp_exchange, amqp_queue, intake_queue, mqtt, serial
from gateway.model.binding import Binding, BindingKind
from gateway.model.participant import Participant
from gateway.model.port import PortDef


@dataclass(frozen=True, slots=True)
class ImportExport:
    """What crosses between MQTT and AMQP besides the graph's edges. ``export`` and ``imports`` are roles or globs."""

    instance: str
    settings: EdgeSettings
    export: tuple[str, ...] = ()
    prefix: str = ""
    imports: tuple[str, ...] = ()

    def exported(self, boards: Sequence[Participant], registry: Registry) -> tuple[Participant, ...]:
        """How boards and MQTT participants look on AMQP."""
        return tuple(self._on_amqp(original) for original in self._exports(boards, registry))

    def imported(self, registry: Registry) -> tuple[Participant, ...]:
        """How AMQP participants look on MQTT."""
        return tuple(_on_mqtt(original) for original in self._imports(registry))

    def is_echo(self, participant: Participant, boards: Sequence[Participant], registry: Registry) -> bool:
        """Whether an announcement is one of ours that came round."""
        if any(participant.id == board.id for board in boards):
            return True
        if participant.transport == "amqp" and self.export and participant.id.startswith(self.prefix):
            own_id = participant.id.removeprefix(self.prefix)
            originals = [board for board in boards if board.id == own_id] + registry.known_as(own_id, "mqtt")
            return any(_matches(original.role, self.export) for original in originals)
        if participant.transport == "mqtt" and self.imports:
            originals = registry.known_as(participant.id, "amqp")
            return any(_matches(original.role, self.imports) for original in originals)
        return False

    def bindings(self, boards: Sequence[Participant], registry: Registry) -> Iterable[Binding]:
        """What carries the messages of all of them."""
        intakes: dict[str, list[Address]] = {}
        for original in self._exports(boards, registry):
            twin = self._on_amqp(original)
            for port, exchange in zip(original.outports, twin.outports, strict=True):
                yield self._binding(_address(original, port), amqp_exchange(exchange.queue))
            for port, queue in zip(original.inports, twin.inports, strict=True):
                intakes.setdefault(queue.queue, []).append(_address(original, port))
        for name, targets in intakes.items():
            yield self._share(amqp_queue(name), list(dict.fromkeys(targets)))
        for original in self._imports(registry):
            twin = _on_mqtt(original)
            for port, topic in zip(original.outports, twin.outports, strict=True):
                source, target = amqp_exchange(port.queue), mqtt(topic.queue)
                binding_id = f"{original.role}.{port.id}->{target}"
                own = intake_queue(self.instance, binding_id)
                contract = self.settings.default(source)
                yield Binding(binding_id, source, target, contract, intake=own, label=binding_id)
            for port, topic in zip(original.inports, twin.inports, strict=True):
                yield self._binding(mqtt(topic.queue), amqp_queue(port.queue))

    def _binding(self, source: Address, target: Address) -> Binding:
        binding_id = f"{source}->{target}"
        return Binding(binding_id, source, target, self.settings.default(source), label=binding_id)

    def _share(self, source: Address, targets: list[Address]) -> Binding:
        """Several participants of a role share their queue, as several workers would: each message to one of them."""
        if len(targets) == 1:
            return self._binding(source, targets[0])
        binding_id = f"{source}->{self.instance}"
        return Binding(
            binding_id,
            source,
            None,
            self.settings.default(source),
            kind=BindingKind.ROUNDROBIN,
            label=binding_id,
            targets=tuple(targets),
        )

    def _exports(self, boards: Sequence[Participant], registry: Registry) -> list[Participant]:
        if not self.export:
            return []
        others = [p for p in registry.everyone() if p.transport == "mqtt"]
        return [p for p in (*boards, *others) if _matches(p.role, self.export)]

    def _imports(self, registry: Registry) -> list[Participant]:
        if not self.imports:
            return []
        return [p for p in registry.everyone() if p.transport == "amqp" and _matches(p.role, self.imports)]

    def _on_amqp(self, original: Participant) -> Participant:
        role = f"{self.prefix}{original.role}"

        def renamed(ports: tuple[PortDef, ...]) -> tuple[PortDef, ...]:
            return tuple(replace(port, queue=f"{role}.{port.id.upper()}") for port in ports)

        inports, outports = renamed(original.inports), renamed(original.outports)
        # The id too: where a board has none of its own it is made of its port, which may be called so on each gateway.
        own_id = f"{self.prefix}{original.id}"
        return replace(original, id=own_id, role=role, transport="amqp", inports=inports, outports=outports)


def _on_mqtt(original: Participant) -> Participant:
    def renamed(ports: tuple[PortDef, ...]) -> tuple[PortDef, ...]:
        return tuple(replace(port, queue=f"{original.role}/{port.id}") for port in ports)

    return replace(original, transport="mqtt", inports=renamed(original.inports), outports=renamed(original.outports))


def _address(original: Participant, port: PortDef) -> Address:
    return serial(original.id, port.id) if original.transport == "serial" else mqtt(port.queue)


def _matches(role: str, globs: tuple[str, ...]) -> bool:
    return any(fnmatchcase(role, glob) for glob in globs)
