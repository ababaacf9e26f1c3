"""Intel HEX, the form in which firmware for microcontrollers is passed on -> the bytes of flash."""

from __future__ import annotations

from gateway.errors import GatewayError

DATA, END, SEGMENT, LINEAR = 0, 1, 2, 4
ERASED = 0xFF
LARGEST = 16 * 1024 * 1024
"""Bytes of an image; a file that claims more is damaged."""


def read_ihex(text: str, source: str) -> bytes:
    """The image from address 0 on, gaps as erased flash has them. ``GatewayError`` names the line that is wrong."""
    image = bytearray()
    base = 0
    for number, line in enumerate(text.split(), 1):
        record = _record(line, f"{source}:{number}")
        address, kind, data = int.from_bytes(record[1:3], "big"), record[3], record[4:-1]
        if kind == END:
            return bytes(image)
        if kind == SEGMENT:
            base = int.from_bytes(data, "big") * 16
        elif kind == LINEAR:
            base = int.from_bytes(data, "big") << 16
        elif kind == DATA:
            end = base + address + len(data)
            if end > LARGEST:
                raise GatewayError(f"{source}:{number}: address {end} is beyond what any board has")
            image.extend(bytes((ERASED,)) * (end - len(image)))
            image[base + address : end] = data
    raise GatewayError(f"{source}: the file has no end: it was cut off")


def _record(line: str, place: str) -> bytes:
    try:
        record = bytes.fromhex(line.removeprefix(":"))
    except ValueError:
        record = b""
    if not line.startswith(":") or len(record) < 5 or len(record) != record[0] + 5:
        raise GatewayError(f"{place}: no line of Intel HEX")
    if sum(record) % 256:
        raise GatewayError(f"{place}: the checksum is wrong: the file is damaged")
    return record
