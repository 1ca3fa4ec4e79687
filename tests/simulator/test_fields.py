"""What a field of a chain may hold: a bad value is refused when the chain is built, in one sentence that names it."""

import dataclasses
import itertools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from generators import (
    KDE,
    VAE,
    Bernoulli,
    Categorical,
    Cohort,
    Diffusion,
    Gaussian,
    Linear,
    Logistic,
    Mixture,
    Ngram,
    PerClass,
    Poisson,
    Prompted,
    Society,
)
from generators.nets.mlp import MLP
from generators.noise import Flow, Noise
from simulator import Chain, GenlossError, Truth, ensemble, schedule
from simulator.checks.fields import Count, Range, check, check_tree
from simulator.numerics.schedule import Number
from simulator.probes import Diversity, Downstream, Fidelity, Frechet, Moments, Points
from simulator.probes.features import Pca
from simulator.recipe import Augment, Curate, Decay, Mix, Replace, Reweigh, Select, Subsample, Then, Window
from simulator.recipe.contamination import Contaminate
from simulator.recipe.suspects import Detector, DropSuspects, FarthestPoints

NAN, INFINITY = float("nan"), float("inf")


def chain(**fields: Any) -> Chain:
    given: dict[str, Any] = {"real": 10, "rows": 10, "held_out": 0, **fields}
    model = given.setdefault("generator", Gaussian(1))
    return Chain(**{"source": Truth(model if isinstance(model, Gaussian) else Gaussian(1)), **given})


def reward(rows: Any) -> jax.Array:
    return rows[:, 0]


def refused(make: Callable[[], Any], *words: str) -> None:
    with pytest.raises(GenlossError) as error:
        make()
    said = str(error.value)
    assert "\n" not in said and said.endswith(".") and len(said) < 300, said
    assert all(word in said for word in words), said


WRONG_KINDS = {"text": "3", "a part": 20.5, "true": True, "not a number": NAN, "infinity": INFINITY, "a list": [3]}


@pytest.mark.parametrize("name", ["real", "rows", "fresh", "held_out"])
@pytest.mark.parametrize("value", [*WRONG_KINDS.values(), None, -1], ids=[*WRONG_KINDS, "nothing", "negative"])
def test_rows_of_a_chain_are_counted_in_whole_numbers(name: str, value: Any):
    refused(lambda: chain(**{name: value}), f"Chain({name}=", "whole number")


CHAINS: dict[str, tuple[Callable[[], Any], str]] = {
    "a class for a recipe": (lambda: chain(recipe=Replace), "Replace(...)"),
    "a class that is no dataclass for a recipe": (lambda: chain(recipe=dict), "dict(...)"),
    "no recipe": (lambda: chain(recipe=None), "a recipe"),
    "text for a recipe": (lambda: chain(recipe="replace"), "a recipe"),
    "a class for a generator": (lambda: chain(generator=Mixture), "Mixture(...)"),
    "a class for a source": (lambda: chain(source=Truth), "Truth(...)"),
    "a generator for a source": (lambda: chain(source=Gaussian(1)), "source"),
    "a list of probes": (lambda: chain(probes=[Moments()]), "mapping from names"),
    "a set of probes": (lambda: chain(probes={Moments()}), "mapping from names"),
    "a class for a probe": (lambda: chain(probes={"m": Moments}), "probe"),
    "a number for a probe": (lambda: chain(probes={"m": 3}), "probe"),
    "a name that is no text": (lambda: chain(probes={3: Moments()}), "mapping from names"),
    "a start that is none": (lambda: chain(start="last"), "scratch, previous or base"),
    "a class in a sequence": (lambda: chain(recipe=Then(Window(2), Replace)), "Replace(...)"),  # pyright: ignore
    "a class among those to select": (lambda: chain(recipe=Select((Replace(), Decay), 0)), "Decay(...)"),  # pyright: ignore
    "a list of recipes": (lambda: chain(recipe=Select([Replace()], 0)), "tuple"),  # pyright: ignore
    "an index that is text": (lambda: chain(recipe=Select((Replace(),), "0")), "Select(index="),  # pyright: ignore
}

NUMBERS: dict[str, tuple[Callable[[Any], Any], tuple[Any, ...]]] = {
    "Mix(real=": (lambda v: Mix(real=v, size=10), (-0.1, 1.1, schedule("linear", 0, 2, 10))),
    "Window(generations=": (lambda v: Window(v), (0, 0.5, schedule("linear", 3, 0, 10))),
    "Decay(rate=": (lambda v: Decay(v), (-0.1, 1.5)),
    "Augment(ratio=": (lambda v: Augment(v), (-1,)),
    "Subsample(size=": (lambda v: Subsample(v), (0, -3)),
    "Reweigh(real=": (lambda v: Reweigh(v), (-0.1, 1.1)),
    "Contaminate(ratio=": (lambda v: Contaminate(v), (-0.1, 1.1)),
    "FarthestPoints(share=": (lambda v: FarthestPoints(v), (-0.1, 1.1)),
    "Curate(strength=": (lambda v: Curate(reward, strength=v), ()),
    "DropSuspects(threshold=": (lambda v: DropSuspects(threshold=v), ()),
}

COUNTS: dict[str, Callable[[Any], Any]] = {
    "Mix(size=": lambda v: Mix(real=0.5, size=v),
    "Mix(window=": lambda v: Mix(real=0.5, size=10, window=v),
    "Curate(best_of=": lambda v: Curate(reward, best_of=v),
    "Gaussian(dim=": lambda v: Gaussian(v),
    "Categorical(size=": lambda v: Categorical(v),
    "KDE(size=": lambda v: KDE(size=v),
    "Mixture(components=": lambda v: Mixture(components=v),
    "Linear(dim=": lambda v: Linear(v),
    "Logistic(steps=": lambda v: Logistic(steps=v),
    "Ngram(order=": lambda v: Ngram(5, order=v),
    "PerClass(classes=": lambda v: PerClass(Gaussian(1), v),
    "Society(members=": lambda v: Society(Gaussian(1), v),
    "Prompted(variants=": lambda v: Prompted(VAE(), variants=v),
    "Cohort(n=": lambda v: Cohort(Gaussian(1), v),
    "VAE(latent=": lambda v: VAE(latent=v),
    "VAE(batch=": lambda v: VAE(batch=v),
    "Diffusion(sample_steps=": lambda v: Diffusion(sample_steps=v),
    "Noise(num_train_timesteps=": lambda v: Noise(num_train_timesteps=v),
    "Flow(num_train_timesteps=": lambda v: Flow(num_train_timesteps=v),
    "Fidelity(neighbours=": lambda v: Fidelity(neighbours=v),
    "Points(projections=": lambda v: Points(projections=v),
    "Pca(dim=": lambda v: Pca(dim=v),
    "Downstream(steps=": lambda v: Downstream(partial(MLP, hidden=(8,)), steps=v),
}

PLAIN: dict[str, tuple[Callable[[Any], Any], tuple[Any, ...]]] = {
    "Gaussian(bias=": (lambda v: Gaussian(1, bias=v), (-1,)),
    "Categorical(smoothing=": (lambda v: Categorical(3, smoothing=v), (-1,)),
    "Categorical(temperature=": (lambda v: Categorical(3, temperature=v), (0,)),
    "Bernoulli(p=": (lambda v: Bernoulli(v), (-0.1, 1.1)),
    "Poisson(rate=": (lambda v: Poisson(v), (-1,)),
    "KDE(bandwidth=": (lambda v: KDE(bandwidth=v), (-1,)),
    "Mixture(floor=": (lambda v: Mixture(floor=v), (0,)),
    "Linear(noise=": (lambda v: Linear(noise=v), (-1,)),
    "Logistic(ridge=": (lambda v: Logistic(ridge=v), (0,)),
    "VAE(learning_rate=": (lambda v: VAE(learning_rate=v), (0, -1)),
    "VAE(average=": (lambda v: VAE(average=v), (1, -0.1)),
    "VAE(clip=": (lambda v: VAE(clip=v), (0,)),
    "VAE(temperature=": (lambda v: VAE(temperature=v), (-1,)),
    "Diffusion(guidance=": (lambda v: Diffusion(guidance=v), (-1,)),
    "Diffusion(stop=": (lambda v: Diffusion(stop=v), (1,)),
    "Noise(clip_sample_range=": (lambda v: Noise(clip_sample_range=v), (0,)),
    "Flow(shift=": (lambda v: Flow(shift=v), (0,)),
    "Detector(known=": (lambda v: Detector(known=v), (-0.1, 1.1)),
    "Points(order=": (lambda v: Points(order=v), (0.5,)),
}  # fmt: skip

KINDS: dict[str, tuple[Callable[[], Any], str]] = {
    "text for a switch": (lambda: Mix(real=0.5, size=10, fresh="yes"), "true or false"),  # pyright: ignore
    "a number for a switch": (lambda: Society(Gaussian(1), share=1), "true or false"),  # pyright: ignore
    "a word that is none of a few": (lambda: Contaminate(by="anyone"), "generated, real or nothing"),  # pyright: ignore
    "a list for a tuple": (lambda: VAE(hidden=[128]), "tuple"),  # pyright: ignore
    "a part of a width": (lambda: VAE(hidden=(128, 1.5)), "tuple"),  # pyright: ignore
    "an object for a function": (lambda: Curate(3), "function"),  # pyright: ignore
    "a class for features": (lambda: Diversity(Pca), "Pca(...)"),  # pyright: ignore
    "a class of an inner generator": (lambda: Society(Gaussian), "Gaussian(...)"),  # pyright: ignore
    "a type of numbers that is none": (lambda: Diffusion(dtype="float16"), "float32 or bfloat16"),  # pyright: ignore
    "not a number in a table": (lambda: Decay(schedule("table", 0.5, NAN)), "Decay(rate="),
}


def tree(thing: Any) -> Callable[[], None]:
    """What a chain does with each part of it when it is built; parts that check themselves have refused before."""
    return lambda: check_tree(thing())


@pytest.mark.parametrize("case", CHAINS)
def test_a_part_of_another_kind_is_refused(case: str):
    refused(CHAINS[case][0], CHAINS[case][1])


@pytest.mark.parametrize("case", KINDS)
def test_a_field_of_another_kind_is_refused(case: str):
    refused(tree(KINDS[case][0]), KINDS[case][1])


@pytest.mark.parametrize("what", COUNTS)
@pytest.mark.parametrize("value", [*WRONG_KINDS.values(), 0, -1], ids=[*WRONG_KINDS, "none", "negative"])
def test_counts_are_whole_numbers_from_one(what: str, value: Any):
    refused(tree(lambda: COUNTS[what](value)), what, "whole number")


@pytest.mark.parametrize("what", NUMBERS | PLAIN)
def test_numbers_are_finite_and_in_their_range(what: str):
    make, outside = (NUMBERS | PLAIN)[what]
    for value in ("3", True, NAN, INFINITY, -INFINITY, [0.5], None, *outside):
        refused(tree(lambda value=value: make(value)), what, "number")
        if isinstance(value, float):  # the same for an array of one number, which a sweep puts in its place
            refused(tree(lambda value=value: make(jnp.float32(value))), what, "number")


@pytest.mark.parametrize("what", NUMBERS)
def test_a_schedule_is_looked_at_over_all_generations(what: str):
    make, outside = NUMBERS[what]
    for value in (v for v in outside if isinstance(v, int | float)):
        refused(tree(lambda value=value: make(schedule("step", 0.5 if "size" not in what else 9, value, 700))), what)


def test_what_is_allowed_passes():
    scheduled = [schedule("linear", 0.9, 0.1, 5), jnp.float32(0.3), np.float64(0.3), 0.3, 0, 1]
    for recipe, value in itertools.product((Decay, Reweigh, Contaminate), scheduled):
        check_tree(recipe(value))
    chain(recipe=Then(Window(2), Mix(real=np.float32(0.5), size=np.int64(10))), fresh=np.int32(10))  # pyright: ignore
    chain(probes={"a": lambda key, view: view.t}, recipe=lambda key, t, pool: pool.weight)
    check_tree(VAE(hidden=(8, 8), shape=(8, 8, 1), classes=None, beta=0))
    check_tree({"any": (Frechet(partial(reward)), Downstream(MLP))})


def test_a_number_that_is_swept_passes_while_it_is_traced_and_not_as_a_value():
    def make(share: Any) -> Chain:
        return chain(recipe=Mix(real=share, size=10, fresh=True), fresh=10)

    record = ensemble(make, jnp.array([0.0, 0.5]), jax.random.split(jax.random.key(0), 2), 2)
    assert np.isfinite(np.asarray(record["fit.mass"])).all()
    refused(lambda: ensemble(make, jnp.array([0.5, 1.5]), jax.random.split(jax.random.key(0), 2), 2), "Mix(real=1.5)")
    refused(lambda: ensemble(lambda n: chain(rows=n), jnp.array([5, 6]), jax.random.split(jax.random.key(0), 2), 2))


@dataclass(frozen=True)
class Mine:
    """A recipe of a user's own, whose fields are declared as those of the library."""

    half_life: Annotated[Number, Range(0, above=True)] = 2.0
    steps: Count = 3
    names: Mapping[str, float] = dataclasses.field(default_factory=dict)

    def __call__(self, key: Any, t: Any, pool: Any) -> Any:
        return pool.weight


def test_a_recipe_of_ones_own_is_checked_by_what_it_declares():
    for fields, word in (
        ({"half_life": 0}, "above 0"),
        ({"half_life": "2"}, "number"),
        ({"steps": 1.5}, "whole number"),
        ({"names": {1: 2.0}}, "mapping"),
        ({"names": {"a": NAN}}, "mapping"),
    ):
        made: Any = Mine(**fields)  # pyright: ignore[reportArgumentType]
        refused(lambda made=made: chain(recipe=Then(Replace(), made)), word)
    chain(recipe=Mine(half_life=schedule("linear", 3, 1, 4)))


@pytest.mark.parametrize(
    ("allowed", "inside", "outside"),
    [
        (Range(0, 1), (0, 0.5, 1), (-0.01, 1.01)),
        (Range(0, 1, above=True), (0.01, 1), (0, 1.01)),
        (Range(0, 1, below=True), (0, 0.99), (-0.01, 1)),
        (Range(2), (2, 1e9), (1.99,)),
        (Range(0, above=True), (1e-9,), (0, -1)),
        (Range(high=3), (3, -1e9), (3.01,)),
    ],
)
def test_ranges_hold_their_ends_and_say_so(allowed: Range, inside: tuple[float, ...], outside: tuple[float, ...]):
    assert all(allowed.holds(np.array([v])) for v in inside)
    assert not any(allowed.holds(np.array([v])) for v in outside)
    for end, included in ((allowed.low, not allowed.above), (allowed.high, not allowed.below)):
        if np.isfinite(end):
            assert re.search(rf"\b{end:g}\b", str(allowed))
            assert allowed.holds(np.array([end])) == included


def test_fields_that_nothing_is_declared_of_are_left_alone():
    @dataclass
    class Open:
        anything: Any
        later: "Unknown"  # noqa: F821  # pyright: ignore

    check(Open(object(), object()))
