"""What every generator owes, and every recipe: all generators x one recipe, one generator x all recipes."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import gaussian_chain
from marked_pictures import Blank, Clouds
from plugins import CASES, OF_IMAGES, RECIPES, TINY

from generators import (
    VAE,
    Society,
    Watermarked,
)
from simulator import Chain, Dataset, Generator, Pool, Record, State, Truth, ensemble, run, simulate
from simulator import recipe as recipes


def chain_of(case: str, **fields: Any) -> Chain:
    generator, source = CASES[case]
    return Chain(source=source, generator=generator, **{"real": 30, "rows": 30, "held_out": 0, **fields})


def kinds(tree: Any) -> Any:
    """Shape, type and weakness of type of each leaf: what a compiled program is compiled for."""
    return jax.tree.map(lambda a: (a.shape, a.dtype, a.weak_type), tree)


@pytest.mark.parametrize("case", CASES)
def test_protocol_shapes_and_types(case: str):
    """As traced: nothing is compiled; a step gives a state which the next is not traced again for."""
    chain, key = chain_of(case, recipe=recipes.Mix(real=0.5, size=20)), jax.eval_shape(lambda: jax.random.key(0))
    model = chain.model
    assert isinstance(model, Generator)
    state = jax.eval_shape(lambda key: chain.init(key, 2), key)
    params, info = jax.eval_shape(model.fit, key, state.params, state.pool)
    assert kinds(params) == kinds(state.params)
    assert all(jnp.issubdtype(value.dtype, jnp.number) for value in info.values())
    rows = jax.eval_shape(lambda key, params: model.sample(key, params, 7), key, params)
    assert jax.tree.map(lambda a: (a.shape, a.dtype), rows) == jax.tree.map(
        lambda a: ((7, *a.shape[1:]), a.dtype), state.pool.rows
    )
    assert kinds(jax.eval_shape(chain.step, key, state)[0]) == kinds(state)


@pytest.mark.parametrize("held_out", [0, 10, 1000])
@pytest.mark.parametrize("generator", [TINY, CASES["diffusion"][0], Society(TINY, 2)])
def test_a_generator_has_the_classes_of_its_source(generator: Any, held_out: int):
    """However few held-out rows are asked for; of a truth, which names no classes, with those that it draws."""
    sources = (Dataset.digits(), Truth(dataclasses.replace(TINY, shape=(8, 8, 1), classes=10)))
    for source in sources[: 1 if held_out == 10 else 2]:
        model: Any = Chain(source=source, generator=generator, held_out=held_out).model
        assert getattr(model, "generator", model).classes == 10


@pytest.mark.quick(
    "gaussian",
    "categorical",
    "categorical-smoothed",
    "bernoulli",
    "poisson",
    "exponential",
    "ngram",
    "linear",
    "logistic",
    "kde",
    "mixture",
    "per-class",
    "cohort",
    "society",
    "society-share",
    "archive",
    "vae",
    "gaussian-unbiased",
    "corrected",
    "copula",
)
@pytest.mark.parametrize("case", CASES)
def test_weight_is_multiplicity(case: str):
    """Weight 2 is the row twice, weight 0 its absence."""
    chain = chain_of(case)
    model: Any = chain.model
    rows = jax.jit(chain.source.draw, static_argnums=1)(jax.random.key(3), 12)
    weight = np.array([2, 1, 0, 3, 1, 1, 0, 2, 1, 1, 0, 0])  # as many rows as before: one program fits both
    repeated = jax.tree.map(lambda leaf: np.repeat(leaf, weight, 0), rows)
    start = jax.jit(lambda rows, weight: Pool.of(rows).weighed(weight))
    fit = jax.jit(lambda pool: model.fit(jax.random.key(1), model.init(jax.random.key(0)), pool)[0])
    weighed, twice = fit(start(rows, weight.astype(np.float32))), fit(start(repeated, np.ones(12, np.float32)))
    if case == "kde":  # the parameters are the rows themselves: the same density can be written in many ways
        weighed, twice = model.log_prob(weighed, rows), model.log_prob(twice, rows)
    assert jax.tree.all(jax.tree.map(lambda a, b: np.allclose(a, b, rtol=2e-4, atol=2e-5), weighed, twice))


@pytest.mark.quick("gaussian", "vae", "cohort")
@pytest.mark.parametrize("case", CASES)
def test_one_compilation_serves_a_whole_chain(case: str):
    assert traces(chain_of(case, recipe=recipes.Mix(real=0.5, size=20))) == 1


def traces(chain: Chain, generations: int = 4) -> int:
    """How often the step of a chain is traced."""
    seen = []

    def step(key: jax.Array, state: State) -> tuple[State, Record]:
        seen.append(key)
        return chain.step(key, state)

    compiled, state = jax.jit(step), chain.init(jax.random.key(0), generations)
    for t in range(generations):
        state, record = compiled(jax.random.fold_in(jax.random.key(0), t), state)
        assert all(np.isfinite(value).all() for value in record.flat().values())
    assert int(state.t) == generations
    return len(seen)


def eaten(key: jax.Array, view: Any) -> Any:
    return {"weight": view.diet.weight, "filled": view.diet.filled}


def keeps_the_contract(found: Record) -> None:
    """Weights are non-negative, none is on an empty slot, and not all are 0."""
    assert all(np.isfinite(value).all() for value in found.flat().values())
    weight, filled = np.asarray(found["eaten.weight"]), np.asarray(found["eaten.filled"]) > 0  # [..., generation, slot]
    assert (weight >= 0).all() and (weight.sum(-1) > 0).all() and (weight[~filled] == 0).all()


@pytest.mark.quick("Mix0", "Contaminate0", "FilterWatermark")
@pytest.mark.parametrize("recipe", [*RECIPES, *OF_IMAGES], ids=lambda recipe: type(recipe).__name__)
def test_every_recipe_drives_a_chain(recipe: Any):
    fields: dict[str, Any] = {"recipe": recipe, "real": 30, "rows": 30, "fresh": 10, "probes": {"eaten": eaten}}
    if recipe in OF_IMAGES:
        chain = Chain(source=Clouds(), generator=Watermarked(Blank()), held_out=0, **fields)
    else:
        chain = gaussian_chain(dim=2, **fields)
    found = simulate(chain, jax.random.key(0), 4)
    assert found.t.tolist() == [0, 1, 2, 3]
    keeps_the_contract(found)


def test_weights_of_every_recipe_are_what_the_contract_says():
    """All in one program."""

    def make(index: Any) -> Chain:
        recipe = recipes.Select(tuple(RECIPES), index)
        return gaussian_chain(dim=2, recipe=recipe, real=30, rows=30, fresh=10, probes={"eaten": eaten})

    keeps_the_contract(ensemble(make, jnp.arange(len(RECIPES)), jax.random.key(0)[None], 4))


def test_no_recipe_retraces():
    assert traces(gaussian_chain(recipe=recipes.Select(tuple(RECIPES[:6]), 0), real=30, rows=30, fresh=10)) == 1


@pytest.mark.quick("False")
@pytest.mark.parametrize("network", [False, True])
def test_run_compiles_each_piece_once(network: bool, monkeypatch: pytest.MonkeyPatch):
    seen: dict[str, int] = {}
    for name in ("weigh", "measure", "remember"):

        def counted(self: Chain, *arguments: Any, name: str = name, own: Any = getattr(Chain, name)) -> Any:
            seen[name] = seen.get(name, 0) + 1
            return own(self, *arguments)

        monkeypatch.setattr(Chain, name, counted)
    run(chain_of("vae" if network else "gaussian"), jax.random.key(0), 4, replicates=2)
    assert seen == {"weigh": 1, "measure": 1, "remember": 1}


def test_start_decides_where_a_fit_begins():
    """With a rate of almost 0 a fit stays where it begins."""
    still = VAE(steps=1, chunk=1, batch=4, hidden=(8,), latent=2, learning_rate=1e-12, average=0.0)

    def first_layers(start: str) -> list[np.ndarray]:
        chain = Chain(source=Dataset.digits(), generator=still, real=20, rows=20, start=start)  # pyright: ignore
        step, state, found = jax.jit(chain.step), chain.init(jax.random.key(0), 3), []
        for t in range(3):
            state, _ = step(jax.random.fold_in(jax.random.key(0), t), state)
            found.append(np.asarray(jax.tree.leaves(state.params["encoder"])[1]))
        return found

    scratch, previous, base = (first_layers(start) for start in ("scratch", "previous", "base"))
    assert np.allclose(previous[0], previous[2], atol=1e-6) and np.allclose(base[0], base[2], atol=1e-6)
    assert not np.allclose(scratch[0], scratch[1], atol=1e-2)


@pytest.mark.quick("vae-0.0")
@pytest.mark.parametrize("average", [0.0, 0.99])
@pytest.mark.parametrize("case", ["vae", "diffusion"])
def test_a_class_that_is_gone_is_never_said(case: str, average: float):
    model = dataclasses.replace(chain_of(case).model, average=average)  # pyright: ignore
    rows = Dataset.digits().draw(jax.random.key(0), 200)
    pool = Pool.of(rows, 200)
    params, _ = model.fit(jax.random.key(1), model.init(jax.random.key(2)), pool.weighed((rows["label"] > 4) * 1.0))
    assert np.isfinite(params["labels"]).all()
    assert set(np.asarray(model.sample(jax.random.key(3), params, 300)["label"])) == {5, 6, 7, 8, 9}
