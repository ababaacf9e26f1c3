"""Talking to a simulated board's control socket: what a person's finger or the weather does to a real one."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

TIMEOUT_S = 60.0


def ask_board(link: Path, request: str) -> Any:
    """Send one request (``stats``, ``set 3 2154``, ``pause`` …) to the board whose pty is at ``link``; its answer."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(TIMEOUT_S)
        connection.connect(f"{link}.ctl")
        connection.sendall(f"{request}\n".encode())
        with connection.makefile("r", encoding="utf-8") as answers:
            return json.loads(answers.readline())
