"""Publications on one channel in confirm mode: a line of waiting ones, a window of unconfirmed ones.

A core: who publishes is an opaque token; the caller writes the bytes and tells what the broker said.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

import msgspec

Token = TypeVar("Token")

Key = tuple[str, str]
"""What a returned publication is recognised by: its routing key and its message id."""


class _Publication(msgspec.Struct, Generic[Token], eq=False):
    token: Token
    data: bytes
    key: Key
    returned: str = ""


class ConfirmResult(msgspec.Struct, Generic[Token], frozen=True):
    """What became of a publication. ``returned`` says why no queue took it."""

    token: Token
    taken: bool
    returned: str = ""


class Confirms(Generic[Token]):
    """Delivery tags count from 1 on a fresh channel, so a fresh channel needs a fresh one of these.

    ``waited_for`` says whether anybody still wants to know: if not, what waits is not sent; what was sent keeps its
    slot until it is confirmed.
    """

    def __init__(self, window: int, waited_for: Callable[[Token], bool]) -> None:
        self._window = window
        self._waited_for = waited_for
        self._waiting: deque[_Publication[Token]] = deque()
        self._flying: dict[int, _Publication[Token]] = {}
        self._last_tag = 0

    def __len__(self) -> int:
        return len(self._flying) + len(self._waiting)

    def offer(self, token: Token, data: bytes, key: Key) -> None:
        """Put a publication in line."""
        self._waiting.append(_Publication(token, data, key))

    def data_to_send(self) -> bytes:
        """As many publications from the line as the window has room for."""
        parts = []
        while self._waiting and len(self._flying) < self._window:
            publication = self._waiting.popleft()
            if not self._waited_for(publication.token):
                continue
            self._last_tag += 1
            self._flying[self._last_tag] = publication
            parts.append(publication.data)
            publication.data = b""
        return b"".join(parts)

    def confirmed(self, tag: int, *, multiple: bool, taken: bool) -> list[ConfirmResult[Token]]:
        """The broker's ack (``taken``) or nack of one publication, or of all up to it (tag 0: of all)."""
        verdicts = []
        for sent in self._up_to(tag) if multiple else [tag]:
            publication = self._flying.pop(sent, None)
            if publication is not None and self._waited_for(publication.token):
                verdicts.append(ConfirmResult(publication.token, taken, publication.returned))
        return verdicts

    def _up_to(self, tag: int) -> list[int]:
        tags = []
        for sent in self._flying:  # rises, so that the rest need not be looked at
            if tag and sent > tag:
                break
            tags.append(sent)
        return tags

    def returned(self, key: Key, reason: str) -> None:
        """The broker found no queue for one of these; its ack follows.

        A return carries no tag, but they come in the order of publishing: it is the oldest that isn't marked yet.
        """
        for publication in self._flying.values():
            if publication.key == key and not publication.returned:
                publication.returned = reason
                return

    def abandon(self) -> list[Token]:
        """The channel is gone: nobody knows what became of those in flight, and those in line were never sent."""
        publications = (*self._flying.values(), *self._waiting)
        self._flying.clear()
        self._waiting.clear()
        return [publication.token for publication in publications if self._waited_for(publication.token)]
