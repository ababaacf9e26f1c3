"""Where a binding's dead letters go: the place never depends on timing."""

from __future__ import annotations

from gateway.model.address import Address, AddressKind, amqp_exchange
from gateway.model.binding import DEAD_SUFFIX, Binding, Contract, DeliveryMode, OverflowPolicy


def is_dead_lane(binding_id: str) -> bool:
    """Whether a binding carries the dead letters of another."""
    return binding_id.endswith(DEAD_SUFFIX)


def dead_binding(binding: Binding) -> Binding | None:
    """The edge that carries a binding's dead letters; None where they rest in the spool.

    A dead letter that is refused in its turn rests in the spool: there is no edge for the letters of letters.
    """
    address = None if is_dead_lane(binding.id) else dead_letter_address(binding)
    if address is None:
        return None
    contract = Contract(mode=DeliveryMode.HELD, overflow=OverflowPolicy.DROP_OLDEST)
    return Binding(
        binding.id + DEAD_SUFFIX, binding.source, address, contract, label=f"dead letters of {binding.label}"
    )


def dead_letter_address(binding: Binding) -> Address | None:
    """What the edge names, else for an AMQP queue its own dead-letter exchange (MsgFlo's ``dead-QUEUE``)."""
    if binding.contract.deadletter is not None:
        return binding.contract.deadletter
    target = binding.tgt
    if target is not None and target.transport == "amqp" and target.kind is AddressKind.QUEUE:
        return amqp_exchange(f"dead-{target.name}")
    return None
