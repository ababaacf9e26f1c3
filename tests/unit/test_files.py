"""Files that are replaced as a whole, and outputs that go where the user wants them."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from gateway.files import read_bytes, read_text, write_file_safely, write_output


def test_what_a_link_points_to_is_replaced_and_not_the_link(tmp_path: Path) -> None:
    real, link = tmp_path / "real.fbp", tmp_path / "link.fbp"
    real.write_bytes(b"old")
    link.symlink_to(real)
    write_file_safely(link, b"new", keep_previous=".1")
    assert link.is_symlink()
    assert (real.read_bytes(), (tmp_path / "real.fbp.1").read_bytes()) == (b"new", b"old")


def test_a_pipe_or_a_directory_is_no_file_that_could_be_replaced(tmp_path: Path) -> None:
    pipe, directory = tmp_path / "pipe", tmp_path / "directory"
    os.mkfifo(pipe)
    directory.mkdir()
    for path in (pipe, directory):
        with pytest.raises(OSError, match="is no file that could be replaced"):
            write_file_safely(path, b"new")
    assert pipe.is_fifo()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["directory", "pipe"]


def test_an_output_goes_into_a_pipe_and_makes_no_directories(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    write_output(pipe, b"picture")
    reader.join(60)
    assert read == [b"picture"]
    assert pipe.is_fifo()
    with pytest.raises(FileNotFoundError):
        write_output(tmp_path / "nowhere" / "a.svg", b"picture")
    assert not (tmp_path / "nowhere").exists()


def test_a_text_is_read_to_a_limit_and_without_the_mark_before_it(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes(b"\xef\xbb\xbfa\rb")
    assert read_text(path) == "a\rb"
    for read in (read_text, read_bytes):
        with pytest.raises(OSError, match="longer than 5 bytes"):
            read(path, 5)
    assert read_bytes(path, 6) == b"\xef\xbb\xbfa\rb"
    path.write_bytes(b"\xff")
    with pytest.raises(OSError, match="no UTF-8 text: invalid start byte at byte 0"):
        read_text(path)
