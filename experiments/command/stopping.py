"""Ctrl-C, at whatever instant: one sentence and exit code 130."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any, NoReturn

STOPPED = 130
_SENTENCE = "genloss: stopped; the same command goes on after the last checkpoint."
_came: list[int] = []  # signals since the command began


def stopped() -> bool:
    """Whether Ctrl-C came, even where whoever was running then took no notice of the exception."""
    return bool(_came)


@contextlib.contextmanager
def interruptible(for_good: bool) -> Iterator[None]:
    """Answers Ctrl-C while a command runs, and, `for_good`, until the process has ended."""
    _came.clear()
    if threading.current_thread() is not threading.main_thread():  # signals are the main thread's
        yield
        return
    before, hook = signal.signal(signal.SIGINT, _raise), sys.unraisablehook
    sys.unraisablehook = lambda said: None if said.exc_type is KeyboardInterrupt else hook(said)
    try:
        yield
    except KeyboardInterrupt:
        _came.append(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, _leave if for_good else before)
        sys.unraisablehook = hook
    if _came:
        print(_SENTENCE, file=sys.stderr)


def _raise(number: int, _: Any) -> NoReturn:
    _came.append(number)
    raise KeyboardInterrupt


def _leave(*_: Any) -> None:
    """All is done but the end of the process, where an exception would only print a stack."""
    os.write(2, f"{_SENTENCE}\n".encode())
    os._exit(STOPPED)
