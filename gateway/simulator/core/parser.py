"""The command parsers of boards: stock firmware's with all its traits (reference: microflo-protocol, section 9), and ours."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto

from gateway.serial_link.protocol.codec import Command, Wire, decode
from gateway.serial_link.protocol.commandformat import DebugLevel, DebugPoint
from gateway.serial_link.protocol.extensions import checksum

Debug = Callable[[DebugLevel, DebugPoint], None]


class ParserState(Enum):
    """Closed: looking for the magic's first byte; header: collecting it; error: one more byte is swallowed."""

    CLOSED = auto()
    HEADER = auto()
    OPEN = auto()
    ERROR = auto()


class Parser:
    """Bytes -> calls of ``opened`` (with the request id) and ``execute``. There is no time-out and no resynchronisation."""

    def __init__(
        self,
        wire: Wire,
        opened: Callable[[int], None],
        execute: Callable[[Command], None],
        debug: Debug,
    ) -> None:
        self._wire = wire
        self._opened = opened
        self._execute = execute
        self._debug = debug
        self._buffer = bytearray()
        self.state = ParserState.CLOSED

    def close(self) -> None:
        """The host said End."""
        self.state = ParserState.CLOSED
        self._buffer.clear()

    def feed(self, byte: int) -> None:
        """One byte from the line."""
        match self.state:
            case ParserState.CLOSED:
                if byte == self._wire.magic[0]:
                    self._buffer[:] = bytes((byte,))
                    self.state = ParserState.HEADER
            case ParserState.ERROR:
                self._debug(DebugLevel.ERROR, DebugPoint.PARSER_INVALID_STATE)
                self.state = ParserState.CLOSED
            case ParserState.HEADER:
                self._buffer.append(byte)
                if len(self._buffer) == self._wire.size:
                    self._header()
            case ParserState.OPEN:
                self._debug(DebugLevel.VERY_DETAILED, DebugPoint.PARSE_COMMAND)
                self._buffer.append(byte)
                if len(self._buffer) == self._wire.size:
                    self._command()

    def _is_magic(self) -> bool:
        return self._buffer.startswith(self._wire.magic)

    def _header(self) -> None:
        if self._is_magic():
            self._open()
        else:
            self._debug(DebugLevel.ERROR, DebugPoint.MAGIC_MISMATCH)
            self.state = ParserState.ERROR
        self._buffer.clear()

    def _open(self) -> None:
        self.state = ParserState.OPEN
        self._opened(self._buffer[-1] if self._wire.request_ids else 0)

    def _command(self) -> None:
        if self._is_magic():
            self._open()
        else:
            self._execute(decode(self._wire, bytes(self._buffer)))
        self._buffer.clear()


class OurParser:
    """The same as our own firmware does it (``firmware_stubs/core/parser.cpp``): an opening counts wherever it stands.

    ``checks`` says whether every command but an opening has its checksum behind it; ``damaged`` is called for a wrong one.
    Half a command is waited for without end, as there is no clock here.
    """

    def __init__(
        self,
        wire: Wire,
        opened: Callable[[int], None],
        execute: Callable[[Command], None],
        debug: Debug,
        damaged: Callable[[], None],
        checks: Callable[[], bool],
    ) -> None:
        self._wire = wire
        self._opened = opened
        self._execute = execute
        self._debug = debug
        self._damaged = damaged
        self._checks = checks
        self._buffer = bytearray()
        self._matched = 0  # of the magic
        self._is_open = False

    def close(self) -> None:
        """The host said End. What was matched of an opening stays."""
        self._is_open = False
        self._buffer.clear()

    def feed(self, byte: int) -> None:
        """One byte from the line."""
        if self._is_open:
            self._debug(DebugLevel.VERY_DETAILED, DebugPoint.PARSE_COMMAND)
        if self._matched == len(self._wire.magic):
            self._open(byte)
            return
        is_other = self._match(byte)
        if self._is_open:
            self._collect(byte)
        elif is_other:
            self._debug(DebugLevel.ERROR, DebugPoint.MAGIC_MISMATCH)

    def _open(self, request_id: int) -> None:
        self._matched = 0
        self._buffer.clear()
        self._is_open = True
        self._opened(request_id)

    def _match(self, byte: int) -> bool:
        """Whether this is another generation's magic. Its first letter stands in it once: nowhere else can it begin anew."""
        magic = self._wire.magic
        if byte == magic[self._matched]:
            self._matched += 1
            return False
        is_other = self._matched == len(magic) - 1
        self._matched = 1 if byte == magic[0] else 0
        return is_other

    def _collect(self, byte: int) -> None:
        self._buffer.append(byte)
        checks = self._checks()
        if len(self._buffer) < self._wire.size + checks:
            return
        whole = bytes(self._buffer)
        self._buffer.clear()
        if checks and checksum(whole):
            self._is_open = False
            self._damaged()
            return
        self._execute(decode(self._wire, whole[: self._wire.size]))
