"""The pieces of a run: each says of every argument whose it is, and has a name of its own in compiled programs."""

import inspect
import logging

import jax
import pytest
from conftest import gaussian_chain

from simulator import Chain, run
from simulator.running import pieces
from simulator.running.drive import Drive
from simulator.running.pieces import Axis, Each, Given, Same
from simulator.types import Array, Key

KEY = jax.random.key(0)


def declared(c: Chain, k: Key, own: Each[Array], shared: Same[Array], spent: Given[Array], *, fixed: int) -> Array:
    return own + shared + spent + fixed


def undeclared(c: Chain, k: Key, own: Each[Array], shared: Array) -> Array:
    return own + shared


def test_axes_are_read_by_name():
    assert pieces.axes(declared) == [Axis(each=True), Axis(each=False), Axis(each=True, given=True)]


def test_an_argument_that_declares_nothing_is_refused():
    with pytest.raises(TypeError, match="`shared` of the piece `undeclared`"):
        Drive(gaussian_chain(), KEY, 1, 2).lift(undeclared)


def test_each_chain_has_its_own_and_all_share_the_same():
    # Both arguments have as many entries as there are chains, so that the wrong axis would broadcast without a word.
    lifted = Drive(gaussian_chain(), KEY, 1, 3).lift(declared, fixed=1000)
    own, shared = jax.numpy.arange(3), 10 * jax.numpy.arange(3)
    spent = 100 * jax.numpy.ones((3, 3), int)
    expected = own[:, None] + shared + spent + 1000
    assert (lifted(own, shared, spent) == expected).all()
    assert spent.is_deleted()  # its memory is the result's
    assert not own.is_deleted() and not shared.is_deleted()


def test_programs_are_called_as_their_pieces(caplog: pytest.LogCaptureFixture):
    every = {
        n for n, f in vars(pieces).items() if inspect.isfunction(f) and [*inspect.signature(f).parameters][:1] == ["c"]
    }
    with jax.log_compiles(), caplog.at_level(logging.WARNING, "jax"):
        run(gaussian_chain(), KEY, 1)
    compiled = {name for name in every for said in caplog.messages if f"jit({name})" in said}
    assert {"init", "scan", "block"} <= compiled
    assert not [said for said in caplog.messages if "jit(one)" in said]
