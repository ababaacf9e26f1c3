"""CBOR. The one home of cbor2, which is loaded with the first message that needs it: most runs do without its memory."""

from __future__ import annotations

from typing import Any


def dumps(value: object) -> bytes:
    """The value as CBOR. ``TypeError`` or ``ValueError`` if it has no form there."""
    import cbor2

    return cbor2.dumps(value)


def loads(data: bytes) -> Any:
    """The value. ``ValueError`` if this is no CBOR."""
    import cbor2

    try:
        return cbor2.loads(data)
    except cbor2.CBORDecodeError as exc:
        raise ValueError(str(exc)) from exc
