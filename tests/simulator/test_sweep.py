"""A sweep is over what something depends on; else it is refused before anything is computed."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from conftest import gaussian_chain
from jax.core import Tracer

from simulator import GenlossError, Sweep, View, run
from simulator.recipe import Accumulate, Mix, Replace, Select


@dataclass(frozen=True)
class Learner:
    """What learns from real rows, and notes whether it did or was only followed."""

    times: float = 1.0
    learned: list[str] = field(default_factory=list, hash=False, compare=False)

    def prepare(self, key: Any, source: Any) -> Any:
        rows = source.draw(key, 4)
        self.learned.append("followed" if isinstance(rows, Tracer) else "done")
        return self.times * rows.mean()


@dataclass(frozen=True)
class Scaled:
    """A probe of which one number moves the result, and another does not."""

    learner: Learner = Learner()
    scale: float = 1.0
    idle: float = 1.0

    def __call__(self, key: Any, view: View) -> Any:
        return self.scale * view.prepared[self.learner]


CHAIN = gaussian_chain(recipe=Select((Replace(), Mix(real=0.5, size=10), Accumulate()), 0), probes={"own": Scaled()})


@pytest.mark.parametrize(
    "path, why",
    [
        ("recipe.recipes.1.real", r"its arm is not selected; select it with recipe.index=1 \(--recipe.index 1\)"),
        ("probes.own.idle", "all settings would be one; sweep another field"),
        ("recipe.index, recipe.recipes.1.real", None),
        ("recipe.index", None),
        ("probes.own.scale", None),
        ("generator.bias", None),
    ],
)
def test_a_field_that_nothing_depends_on_is_refused(path: str, why: str | None):
    values = {"a": (0, 0.5), "b": (1, 0.25)} if "," in path else {"a": 0, "b": 1}
    if why is None:
        Sweep(CHAIN, path, values).check()
    else:
        with pytest.raises(GenlossError, match=f"`{path}` changes nothing that is computed: {why}"):
            Sweep(CHAIN, path, values).check()


def test_what_probes_learn_is_not_learned_to_find_that_out():
    probe = Scaled(Learner())
    chain = gaussian_chain(probes={"own": probe})
    Sweep(chain, "probes.own.scale", {"a": 1.0, "b": 2.0}).check()
    assert set(probe.learner.learned) == {"followed"} and "prepared" not in vars(chain)


def test_what_is_learned_once_cannot_be_swept():
    with pytest.raises(GenlossError, match="cannot be swept in one program"):
        Sweep(CHAIN, "probes.own.learner.times", {"a": 1.0, "b": 2.0}).check()


def test_a_selected_arm_alone_is_what_is_computed():
    def arm(index: int) -> Any:
        return Select((Replace(), boom), index)

    def boom(*_: Any) -> Any:
        raise AssertionError("not selected")

    chain = gaussian_chain()
    pool = chain.init(jax.random.key(0), 2).pool
    assert jnp.array_equal(arm(0)(jax.random.key(1), 0, pool), Replace()(jax.random.key(1), jnp.int32(0), pool))


@pytest.mark.parametrize("at_once", [1, 2])
def test_settings_in_turn_are_those_side_by_side(at_once: int):
    """Three settings, one or two at a time, with two replicates each."""
    chain = gaussian_chain(recipe=Mix(real=0.5, size=10))
    sweep = Sweep(chain, "recipe.real", {"a": 0.2, "b": 0.5, "c": 1.0})
    together, in_turn = (
        run(s, jax.random.key(0), 3, replicates=2) for s in (sweep, dataclasses.replace(sweep, at_once=at_once))
    )
    assert together.t.shape == (3, 2, 3)
    for a, b in zip(jax.tree.leaves(together), jax.tree.leaves(in_turn), strict=True):
        assert jnp.allclose(a, b, rtol=1e-5)


def test_no_setting_at_once_is_refused():
    with pytest.raises(GenlossError, match="at_once"):
        Sweep(gaussian_chain(), "generator.jitter", {"a": 0.1}, at_once=0)
