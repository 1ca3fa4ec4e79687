"""Whether a run fits is said before it begins."""

import dataclasses

import jax
import pytest
import tiny_vae

from simulator.running import memory
from simulator.running.drive import Drive
from simulator.types import GenlossError


def test_a_piece_that_does_not_fit_is_named_and_what_is_compiled_for_the_check_is_what_runs(
    monkeypatch: pytest.MonkeyPatch,
):
    """The compiler's need of every piece is asked for, the largest included; a run then compiles none of them again."""
    chain = dataclasses.replace(tiny_vae.chain, probes={"mean": mean}, fresh=0)
    drive = Drive(chain, jax.random.key(0), 2, 2)
    state = drive.start()
    needs: list[int] = []
    monkeypatch.setattr(memory, "taken", lambda program, taken=memory.taken: needs.append(taken(program)) or needs[-1])
    memory.fits(drive, state)
    pieces = ["begin", "advance", "speak", "measure", "remember"]
    assert len(needs) == len(pieces) and min(needs) > 0
    held, pool = memory.bytes_of(state), memory.bytes_of(state.pool) - state.pool.weight.nbytes
    beside = {"begin": 0, "remember": 0, "speak": held, "advance": held - pool, "measure": held - pool}  # of the state
    whole = [need + beside[name] for name, need in zip(pieces, needs, strict=True)]
    monkeypatch.setattr(memory, "_memory", lambda: max(whole) - 1)
    with pytest.raises(GenlossError, match=f"to {pieces[whole.index(max(whole))]}, and the device gives"):
        memory.fits(drive, state)
    monkeypatch.setattr(memory, "_memory", lambda: max(whole))
    memory.fits(drive, state)

    compiled: list[str] = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, duration_secs, **more: (
            compiled.append(str(more.get("fun_name"))) if "backend_compile" in event else None
        )
    )
    drive.go(None, 1, 60.0, None)
    assert not {name for name in compiled for piece in pieces if piece in name}, compiled


def mean(key: jax.Array, view: object) -> jax.Array:
    return view.synthetic["image"].mean()  # pyright: ignore[reportAttributeAccessIssue]
