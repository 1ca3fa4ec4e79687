"""A chain as data: overrides, JSON, signature, differences."""

import json
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_gaussian
import tiny_vae
from conftest import gaussian_chain, moments

from generators import Gaussian
from simulator import Chain, GenlossError, Truth, schedule
from simulator.recipe import Accumulate, Mix, Then, Verify, Window
from simulator.running import spec


def roundtrip(value: Any) -> Any:
    return spec.decode(json.loads(json.dumps(spec.encode(value))), trust={"conftest"})


@pytest.mark.parametrize("chain", [tiny_vae.chain, tiny_gaussian.chain], ids=["vae", "gaussian"])
def test_a_chain_survives_json(chain: Chain):
    again = roundtrip(chain)
    assert spec.encode(again) == spec.encode(chain)
    assert again.recipe == chain.recipe and again.generator == chain.generator and again.source == chain.source


def test_schedules_recipes_in_sequence_and_parameters_survive_json():
    truth = Gaussian(2).init(jax.random.key(0))._replace(mean=jnp.array([0.1, 7.0]))
    chain = Chain(
        source=Truth(Gaussian(2), truth),
        generator=Gaussian(2),
        recipe=Then(Window(4), Mix(real=schedule("linear", 1.0, 0.1, 10), size=5)),
        probes={"moments": moments},
    )
    again = roundtrip(chain)
    assert again.recipe == chain.recipe and again.probes == chain.probes
    assert np.array_equal(again.source.params.mean, truth.mean)
    assert again.source.params.cov.dtype == truth.cov.dtype


def test_signature_changes_with_any_field_and_only_then():
    base = spec.signature(spec.encode(tiny_vae.chain))
    assert base == spec.signature(spec.encode(spec.override(tiny_vae.chain, {"real": 100})))
    changes = {
        "real": 99,
        "generator.steps": 70,
        "recipe.index": 1,
        "probes.downstream.steps": 21,
        "source.reuse": True,
    }
    signatures = {spec.signature(spec.encode(spec.override(tiny_vae.chain, {k: v}))) for k, v in changes.items()}
    assert len(signatures | {base}) == len(changes) + 1


def test_lambdas_and_closures_are_refused():
    bound = 3.0
    for score in (lambda rows: rows[:, 0], partial(lambda rows, b: rows[:, 0] > b, b=bound)):
        with pytest.raises(GenlossError, match="make it a module-level function or a frozen dataclass"):
            spec.encode(gaussian_chain(recipe=Verify(score, 0.0)))

    def local(rows: Any) -> Any:
        return rows[:, 0] > bound

    with pytest.raises(GenlossError, match="module-level function"):
        spec.encode(gaussian_chain(recipe=Verify(local, 0.0)))


def test_overrides_are_typed_paths_and_checked_anew():
    chain = spec.override(
        tiny_vae.chain, {"recipe.index": 1, "generator.steps": 40, "probes.diet.births": 6, "start": "base"}
    )
    assert (chain.recipe.index, chain.generator.steps, chain.probes["diet"].births, chain.start) == (1, 40, 6, "base")  # pyright: ignore
    nested = spec.override(
        gaussian_chain(recipe=Then(Accumulate(), Mix(real=0.5, size=4))), {"recipe.recipes.1.real": 0.25}
    )
    assert nested.recipe == Then(Accumulate(), Mix(real=0.25, size=4))
    with pytest.raises(GenlossError, match=r"no field 'stepz'; the nearest is 'steps'"):
        spec.override(tiny_vae.chain, {"generator.stepz": 1})
    with pytest.raises(GenlossError, match="between 0 and 1"):
        spec.override(nested, {"recipe.recipes.1.real": 3.0})


def test_every_field_is_listed_with_its_type_and_help():
    found = {leaf.path: leaf for leaf in spec.leaves(tiny_vae.chain)}
    for path in ("source.path", "generator.steps", "generator.hidden", "recipe.index", "real", "start"):
        assert path in found
        assert found[path].help, path
    assert found["generator.learning_rate"].type is float


def test_differences_name_the_fields():
    old = spec.encode(tiny_vae.chain)
    new = spec.encode(spec.override(tiny_vae.chain, {"rows": 50, "generator.beta": 0.5}))
    assert spec.differences(old, new) == ["generator.beta: 1.0 -> 0.5", "rows: 100 -> 50"]
    assert spec.differences(old, old) == []


def test_unknown_modules_are_named_not_run():
    with pytest.raises(GenlossError, match="would import no_such_module"):
        spec.decode({"$type": "no_such_module:Thing"})
    with pytest.raises(GenlossError, match="no_such_module:Thing"):
        spec.decode({"$type": "no_such_module:Thing"}, trust=True)


@pytest.mark.parametrize("kind", ["threefry2x32", "rbg", "unsafe_rbg"])
def test_keys_of_every_kind_survive_json_and_are_told_apart(kind: str):
    key = jax.random.key(7, impl=kind)
    again = roundtrip(key)
    assert jax.random.key_impl(again) == jax.random.key_impl(key)
    assert np.array_equal(jax.random.bits(again, (8,)), jax.random.bits(key, (8,)))
    assert (spec.encode(key) == {"$key": [0, 7]}) == (kind == "threefry2x32")  # written as it always was
