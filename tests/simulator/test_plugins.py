"""What a plug-in does wrong is one sentence that names the mend, where it would otherwise be a stack of jax."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import pytest

from generators import Gaussian
from simulator import Chain, GenlossError, Pool, Truth, simulate
from simulator.probes import Moments


class Found(NamedTuple):
    mean: jax.Array
    scale: jax.Array


@dataclass(frozen=True)
class Plain:
    """A Gaussian whose `fit` may forget its report."""

    report: bool = True

    def init(self, key: Any) -> Found:
        return Found(jnp.float32(0), jnp.float32(1))

    def fit(self, key: Any, params: Found, pool: Pool) -> Any:
        found = Found(pool.rows.mean(), pool.rows.std())
        return (found, {}) if self.report else found

    def sample(self, key: Any, params: Found, n: int) -> jax.Array:
        return params.mean + params.scale * jax.random.normal(key, (n, 1))


def decides(key: Any, t: Any, pool: Pool) -> jax.Array:
    return pool.weight if t > 1 else 2 * pool.weight


def counts(key: Any, view: Any) -> float:
    return float(view.params.mean)


def slips(key: Any, view: Any) -> Any:
    return view.diet.nothing_of_the_kind


CASES: dict[str, tuple[dict[str, Any], str]] = {
    "a recipe that decides by t": ({"recipe": decides}, "The recipe decides needs in Python a number .*use jax.numpy"),
    "a probe that makes a float": ({"probes": {"p": counts}}, "The probe 'p' needs in Python .*test_plugins.py, line"),
    "a fit without a report": ({"generator": Plain(False)}, "returned Found; return two things, .*return params, {}"),
    "a probe of others' parameters": ({"probes": {"m": Moments()}}, "'m' reads `variances` .* is Found here"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_plug_in_that_cannot_be_compiled_is_told_why(case: str):
    fields, words = CASES[case]
    chain = Chain(**{"source": Truth(Gaussian(1)), "generator": Plain(), "real": 4, "rows": 4, "held_out": 0, **fields})
    with pytest.raises(GenlossError, match=words):
        jax.eval_shape(lambda key: simulate(chain, key, 2), jax.random.key(0))


def test_a_mistake_of_another_kind_is_shown_as_it_is():
    chain = Chain(source=Truth(Gaussian(1)), generator=Plain(), probes={"p": slips}, real=4, rows=4, held_out=0)
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        jax.eval_shape(lambda key: simulate(chain, key, 2), jax.random.key(0))


def test_what_is_no_generator_is_told_what_it_lacks():
    class Half:
        init: Callable[..., Any] = Plain.init
        sample: Callable[..., Any] = Plain.sample

    with pytest.raises(GenlossError, match="must be a generator, and has no `fit`"):
        Chain(source=Truth(Gaussian(1)), generator=Half())  # pyright: ignore[reportArgumentType]
