"""What a generation ends with is compiled while it begins, once."""

import dataclasses
import threading
from types import SimpleNamespace

import jax
import pytest
import tiny_vae

from simulator.running import ahead
from simulator.running.drive import Drive


def test_every_piece_is_compiled_once_and_those_that_a_generation_ends_with_in_a_thread():
    chain = dataclasses.replace(tiny_vae.chain, probes={"mean": mean}, fresh=0)
    compiled: list[tuple[str, bool]] = []  # (piece, whether in the caller's thread)
    caller = threading.current_thread()

    def listen(event: str, duration_secs: float, **more: object) -> None:
        if "backend_compile" in event:
            compiled.append((str(more.get("fun_name")), threading.current_thread() is caller))

    jax.monitoring.register_event_duration_secs_listener(listen)
    Drive(chain, jax.random.key(0), 2, 2).go(None, 1, 60.0, None)
    for piece, here in {"begin": True, "advance": True, "speak": False, "measure": False, "remember": False}.items():
        assert [where for name, where in compiled if piece in name] == [here], (piece, compiled)


def test_what_goes_wrong_in_the_thread_is_raised_where_it_is_waited_for(monkeypatch: pytest.MonkeyPatch):
    def fail() -> None:
        raise MemoryError("too large")

    piece = SimpleNamespace(func=SimpleNamespace(lower=lambda: SimpleNamespace(compile=fail)), args=())
    monkeypatch.setattr(ahead, "calls", lambda drive, state: [(piece, ())])
    wait = ahead.compiling(Drive(tiny_vae.chain, jax.random.key(0), 1, None))
    with pytest.raises(MemoryError, match="too large"):
        wait()


def mean(key: jax.Array, view: object) -> jax.Array:
    return view.synthetic["image"].mean()  # pyright: ignore[reportAttributeAccessIssue]
