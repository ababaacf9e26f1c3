"""Files written for MsgFlo's Python library, run unchanged: ``import msgflo`` finds this gateway's own participants."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from traceback import extract_tb
from types import ModuleType
from typing import Any, cast

from gateway.errors import ConfigError, GatewayError, NotFound
from gateway.participant import gevent_shim
from gateway.participant.blocking import BlockingMessage, BlockingParticipant, Engine
from gateway.participant.run import Factory, main, run


def msgflo_module() -> ModuleType:
    """A module with the names of the old library that participants use."""
    module = ModuleType("msgflo", "The MsgFlo participant interface, by microflo-gateway.")
    names: dict[str, Any] = {
        "Participant": BlockingParticipant,
        "Engine": Engine,
        "Message": BlockingMessage,
        "main": main,
        "run": run,
        "msgflo": module,
    }
    for name, value in names.items():
        setattr(module, name, value)
    return module


@contextmanager
def standing_in(path: Path, role: str, iips: str) -> Iterator[None]:
    """While a file runs: our ``msgflo`` and ``gevent`` to import, its directory to import from, its command line."""
    modules = {"msgflo": msgflo_module(), **gevent_shim.stand_in()}
    modules["msgflo.msgflo"] = modules["msgflo"]
    before = {name: sys.modules.get(name) for name in modules}
    arguments, directories = sys.argv, sys.path[:]
    sys.modules.update(modules)
    sys.argv = [str(path), role, "--iips", iips]
    sys.path[:0] = [str(path.parent.resolve())]
    try:
        yield
    finally:
        sys.argv, sys.path[:] = arguments, directories
        for name, module in before.items():
            if module is None:
                sys.modules.pop(name, None)
            else:
                sys.modules[name] = module


def load_participant(path: Path, class_name: str = "") -> Factory:
    """The participant class of a file: the one named, else the first that the file itself defines.

    ``NotFound`` if there is no such file or class.
    """
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise NotFound(f"{path}: no such Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    found = _participant_classes(module)
    if class_name:
        if class_name not in found:
            raise NotFound(f"{path}: no participant class {class_name} (it has: {', '.join(found) or 'none'})")
        return found[class_name]
    if not found:
        raise ConfigError(str(path), "", "has no class with the methods process and send; derive one from Participant")
    return next(iter(found.values()))


@contextmanager
def authors_code(path: Path) -> Iterator[None]:
    """What a participant's file does wrong is said as its own, with the line; ``SystemExit`` and our errors come through."""
    try:
        yield
    except GatewayError:
        raise
    except Exception as exc:
        lines = [frame.lineno for frame in extract_tb(exc.__traceback__) if frame.filename == str(path)]
        line = exc.lineno if isinstance(exc, SyntaxError) else lines[-1] if lines else None
        what = " ".join((exc.msg if isinstance(exc, SyntaxError) else str(exc)).split())
        where = f" (line {line})" if line else ""
        raise GatewayError(f"{path}: {type(exc).__name__}: {what}{where}") from exc


def _participant_classes(module: ModuleType) -> dict[str, Factory]:
    """By name; those the module defines before those it imported, our own base class never."""
    classes = {
        name: value
        for name, value in sorted(vars(module).items())
        if isinstance(value, type)
        and value is not BlockingParticipant
        and hasattr(value, "process")
        and hasattr(value, "send")
    }
    own = {name: value for name, value in classes.items() if value.__module__ == module.__name__}
    return cast(dict[str, Factory], {**own, **classes})
