"""One chain, however it is driven: scan = host loop = stored = resumed."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_vae
from conftest import gaussian_chain
from equality import close

from experiments.command.rates import fit
from generators import VAE, Gaussian
from simulator import Chain, Dataset, GenlossError, Pool, Sweep, Truth, ensemble, run, simulate
from simulator.recipe import Accumulate, Mix, Replace, Select, Subsample, Then, Verify
from simulator.running import spec
from simulator.running.drive import Drive
from simulator.running.estimate import estimate

KEY = jax.random.key(0)


def stepped(chain: Chain, key: jax.Array, generations: int) -> Any:
    step, state, records = jax.jit(chain.step), chain.init(key, generations), []
    for t in range(generations):
        state, record = step(jax.random.fold_in(key, t), state)
        records.append(record)
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *records)


RECIPES = {
    "replace": {"recipe": Replace()},
    "accumulate": {"recipe": Accumulate()},
    "fresh": {"recipe": Mix(real=0.4, size=10, fresh=True), "fresh": 4},
}


@pytest.mark.quick("fresh")
@pytest.mark.parametrize("fields", RECIPES.values(), ids=RECIPES)
def test_scan_equals_host_loop_and_run(fields: dict[str, Any]):
    chain, key = gaussian_chain(dim=2, **fields), jax.random.key(4)
    scanned = simulate(chain, key, 8)
    assert close(scanned, stepped(chain, key, 8))
    assert close(scanned, run(chain, key, 8))
    assert close(scanned, run(chain, key, 8, every=3))


@pytest.mark.slow
def test_scan_equals_run_for_a_network_after_few_steps():
    chain = Chain(
        source=Dataset.digits(),
        generator=VAE(steps=4, chunk=2, batch=16, hidden=(16,), latent=2),
        recipe=Mix(real=0.5, size=30),
        probes={"decoder": last_bias},
        real=40,
        rows=40,
    )
    key = jax.random.key(0)
    assert close(simulate(chain, key, 2), run(chain, key, 2), rtol=1e-3, atol=1e-4)


def last_bias(key: jax.Array, view: Any) -> jax.Array:
    return jax.tree.leaves(view.params["decoder"])[-2]


def test_ensemble_is_simulate_at_every_value_and_key():
    made: list[Any] = []

    def make(index: Any) -> Chain:
        made.append(index)
        return gaussian_chain(recipe=Select((Replace(), Accumulate()), index))

    keys = jax.random.split(jax.random.key(0), 3)
    found = ensemble(make, jnp.arange(2), keys, 5)
    traced = len(made)
    ensemble(make, jnp.arange(2), keys, 5)
    assert len(made) - traced == 2 < traced, "a second call builds each chain to check it, and compiles nothing"
    assert found["moments.cov"].shape == (2, 3, 5, 1, 1)
    for i in range(2):
        for j in range(3):
            one = simulate(make(i), keys[j], 5)
            assert close(jax.tree.map(lambda a, i=i, j=j: a[i, j], found), one)


def test_run_drives_sweeps_as_ensemble_does():
    chain = gaussian_chain(recipe=Mix(real=0.5, size=10, fresh=True), fresh=8)
    sweep = Sweep(chain, "recipe.real", {"a": 0.2, "b": 0.6})
    key = jax.random.key(1)
    keys = jnp.stack([jax.random.fold_in(key, r) for r in range(3)])
    found = run(sweep, key, 6, replicates=3, every=4)
    assert found["moments.cov"].shape == (2, 3, 6, 1, 1)
    assert close(found, ensemble(sweep.make, sweep.grid, keys, 6))


@pytest.mark.slow
def test_a_sweep_over_two_fields_is_each_pair_alone():
    chain = gaussian_chain(recipe=Mix(real=0.5, size=10, fresh=True), fresh=8)
    sweep = Sweep(chain, "recipe.real, generator.bias", {"a": (0.2, 1.0), "b": (0.6, 0.8)})
    key = jax.random.key(1)
    found = run(sweep, key, 6)
    for i, (real, bias) in enumerate(sweep.values.values()):
        alone = spec.override(chain, {"recipe.real": real, "generator.bias": bias})
        assert close(jax.tree.map(lambda a, i=i: a[i, 0], found), simulate(alone, jax.random.fold_in(key, 0), 6))
    with pytest.raises(GenlossError, match="give one a field"):
        Sweep(chain, "recipe.real, generator.bias", {"a": 0.2})


def test_keys_are_folded_in_per_generation():
    """Generations do not depend on how many there are."""
    chain = gaussian_chain(recipe=Mix(real=0.5, size=10, fresh=True), fresh=5)
    short, long = simulate(chain, jax.random.key(0), 3), simulate(chain, jax.random.key(0), 9)
    assert close(short, jax.tree.map(lambda a: a[:3], long))


def test_a_record_names_its_metrics():
    found = simulate(gaussian_chain(), jax.random.key(0), 3)
    assert found.t.tolist() == [0, 1, 2]
    assert found["moments"]["mean"].shape == (3, 1) and found["moments.mean"].shape == (3, 1)
    assert "moments.cov" in found and "moments.nothing" not in found
    assert set(found.flat()) == {"fit.mass", "moments.mean", "moments.cov"}


def test_real_rows_are_disjoint_slices_of_one_permutation():
    chain = Chain(source=Dataset.digits(), generator=tiny_vae.chain.generator, real=100, rows=10, fresh=50)
    state = chain.init(jax.random.key(0), 4)
    seen = [np.asarray(state.pool.rows["image"][:100])]
    for t in range(1, 4):
        fresh = chain.serve(state.key, jnp.int32(t))
        assert fresh is not None
        seen.append(np.asarray(fresh["image"]))
    rows = np.concatenate(seen).reshape(250, -1)
    assert len(np.unique(rows, axis=0)) == 250


def test_running_out_of_real_rows_is_an_error_before_the_first_fit():
    with pytest.raises(GenlossError, match="set `reuse`"):
        Chain(source=Dataset.digits(), generator=VAE(), real=2000)
    chain = Chain(source=Dataset.digits(), generator=tiny_vae.chain.generator, real=1000, rows=10, fresh=100)
    with pytest.raises(GenlossError, match="number of generations"):
        chain.init(jax.random.key(0), 10)
    reused = spec.override(chain, {"source.reuse": True})
    assert reused.init(jax.random.key(0), 10).pool.capacity == 1000 + 10 * 110


def test_a_planted_held_out_row_raises():
    chain = Chain(source=Dataset.digits(), generator=tiny_vae.chain.generator, real=100, rows=10)
    state = chain.init(jax.random.key(0), 2)
    planted = jax.tree.map(lambda a, b: a.at[17].set(b[3]), state.pool.rows, chain.reference)
    with pytest.raises(GenlossError, match="1 of the pool's real rows are held-out"):
        chain.step(jax.random.key(0), state.replace(pool=state.pool.replace(rows=planted)))

    with pytest.raises(GenlossError, match="100 of the pool's real rows are held-out"):
        run(Chain(source=Leaky(late=0), generator=chain.generator, real=100, rows=10), jax.random.key(0), 1)


@dataclass(frozen=True)
class Leaky(Dataset):
    """Serves held-out rows after the first `late` ones of a stream."""

    late: int = 0

    def draw(self, key: Any, n: int, held_out: bool = False, skip: Any = 0) -> Any:
        real, leaked = super().draw(key, n, skip=skip), super().draw(key, n, held_out=True)
        leak = jnp.asarray(held_out) | (skip + jnp.arange(n) >= self.late)
        return jax.tree.map(lambda a, b: jnp.where(leak.reshape(-1, *[1] * (a.ndim - 1)), b, a), real, leaked)


@pytest.mark.quick("3")
@pytest.mark.parametrize("every", [1, 3])
def test_a_source_that_leaks_into_fresh_rows_is_caught(every: int, tmp_path: Path):
    """Rows 0..29 are served at generation 0 and rows 30..39 at 1, in training; at 2 they are held-out ones."""
    chain = Chain(
        source=Leaky(late=40), generator=PerPixel(), recipe=Replace(), real=30, rows=10, fresh=10, held_out=20
    )
    assert run(chain, KEY, 2, tmp_path / "run", every=every) is not None
    for store in (None, tmp_path / "run"):  # from the start, and gone on with
        with pytest.raises(GenlossError, match="10 of the pool's real rows are held-out"):
            run(chain, KEY, 4, store, every=every)


@dataclass(frozen=True)
class PerPixel:
    """Repeats the first rows of its diet: cheap, and of any shape."""

    def init(self, key: Any) -> Any:
        return jax.tree.map(lambda a: jnp.zeros((10, *a.shape[1:]), a.dtype), Dataset.digits().draw(key, 1))

    def fit(self, key: Any, params: Any, pool: Pool) -> Any:
        return jax.tree.map(lambda a: a[:10], pool.rows), {}

    def sample(self, key: Any, params: Any, n: int) -> Any:
        return jax.tree.map(lambda a: jnp.resize(a, (n, *a.shape[1:])), params)


def test_a_loss_that_is_not_finite_stops_the_run():
    wild = VAE(steps=40, chunk=10, batch=16, hidden=(16,), latent=2, learning_rate=1e18, clip=1e30)
    chain = Chain(source=Dataset.digits(), generator=wild, real=50, rows=50)
    with pytest.raises(GenlossError, match="generation 0 is not finite"):
        run(chain, jax.random.key(0), 2)


def test_an_empty_diet_stops_the_run():
    chain = gaussian_chain(recipe=Select((Accumulate(), Verify(negated, 0.0)), 1), real=10)
    run(chain, jax.random.key(0), 2)  # real rows pass
    only_bad = gaussian_chain(recipe=nothing)
    with pytest.raises(GenlossError, match="nothing to eat at generation 2"):
        run(only_bad, jax.random.key(0), 5, every=5)


def negated(rows: jax.Array) -> jax.Array:
    return jnp.full(rows.shape[0], -1.0)


def nothing(key: jax.Array, t: jax.Array, pool: Pool) -> jax.Array:
    return pool.weight * (t < 2)


def test_source_and_generator_must_agree():
    with pytest.raises(GenlossError, match="must agree"):
        chain = Chain(source=Truth(gaussian_chain(dim=3).generator), generator=gaussian_chain(dim=2).generator)
        chain.init(jax.random.key(0), 1)


def test_a_field_that_shapes_depend_on_cannot_be_swept():
    with pytest.raises(GenlossError, match="cannot be swept in one program"):
        run(Sweep(gaussian_chain(), "rows", {"5": 5, "6": 6}), jax.random.key(0), 2)


def test_ensembles_check_every_value():
    with pytest.raises(GenlossError, match="between 0 and 1"):
        ensemble(
            lambda a: gaussian_chain(recipe=Mix(real=a, size=10)), jnp.array([0.5, 7.0]), jax.random.split(KEY, 2), 2
        )
    with pytest.raises(GenlossError, match="raise `fresh`"):
        ensemble(
            lambda a: gaussian_chain(recipe=Mix(real=a, size=10, fresh=True), fresh=5),
            jnp.array([0.5, 0.9]),
            jax.random.split(KEY, 2),
            2,
        )


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"real": "10"}, "whole number"),
        ({"rows": 10.5}, "whole number"),
        ({"recipe": Replace}, r"Replace\(\.\.\.\)"),
        ({"recipe": None}, "must be a recipe, such as"),
        ({"probes": {"fit": last_bias}}, "cannot be called 'fit'"),
        ({"probes": {"a.b": last_bias}}, "cannot be called 'a.b'"),
    ],
)
def test_a_chain_that_cannot_be_is_refused(fields: dict[str, Any], word: str):
    with pytest.raises(GenlossError, match=word):
        gaussian_chain(**fields)


def test_a_key_that_is_none_is_refused():
    with pytest.raises(GenlossError, match=r"give jax.random.key\(0\)"):
        run(gaussian_chain(), 0, 2)  # pyright: ignore[reportArgumentType]


def says(value: Any) -> Any:
    return lambda key, view: value


METRICS = {
    "several values": ((1.0, 2.0), "returned several values; return a dict"),
    "several values in a dict": ({"a": [1.0, 2.0]}, "returned several values as 'a'"),
    "text": ("good", "returned str, of type <U4; return numbers"),
    "text in a dict": ({"a": {"b": "good"}}, "returned str as 'a.b'"),
    "nothing": (None, "returned None"),
    "complex": (jnp.ones(2) * 1j, "complex64; return numbers"),
    "a key": (jax.random.key(0), "return numbers"),
    "an object": (object(), "returned object"),
    "names that clash": ({"a.b": 1.0, "a": {"b": 2.0}}, "two metrics called 'a.b'; give each a name of its own"),
    "a number for a name": ({1: 1.0}, "names a metric 1; names are text"),
}


@pytest.mark.parametrize(("value", "word"), METRICS.values(), ids=METRICS)
def test_a_probe_that_gives_no_numbers_is_named(value: Any, word: str):
    chain = gaussian_chain(probes={"mine": says(value)})
    for drive in (simulate, run):
        with pytest.raises(GenlossError, match=re.escape(word)):
            drive(chain, KEY, 1)


WEIGHTS = {
    "one number": (lambda w: 1.0, r"The recipe .* returned float64\[\] for a pool of 50 rows"),
    "a row too few": (lambda w: w[1:], r"returned float32\[49\]"),
    "a table": (lambda w: w[:, None], r"returned float32\[50, 1\]"),
    "complex": (lambda w: w * 1j, r"returned complex64\[50\]"),
    "nothing": (lambda w: None, r"returned object\[\]"),
}


def weighs(change: Callable[[Any], Any]) -> Any:
    return lambda key, t, pool: change(pool.weight)


@pytest.mark.parametrize(("change", "word"), WEIGHTS.values(), ids=WEIGHTS)
def test_a_recipe_that_gives_no_weight_for_each_row_is_named(change: Callable[[Any], Any], word: str):
    for drive in (simulate, run):
        with pytest.raises(GenlossError, match=word):
            drive(gaussian_chain(recipe=weighs(change)), KEY, 4)


UNSOUND = {"negative": -1.0, "infinite": np.inf, "NaN": np.nan}


@dataclass(frozen=True)
class Odd:
    """Gives one row of a diet a weight that is none."""

    weight: str

    def __call__(self, key: Any, t: Any, pool: Pool) -> Any:
        return pool.weight.at[3].set(jnp.where(t == 1, UNSOUND[self.weight], 1.0))


@pytest.mark.quick("NaN")
@pytest.mark.parametrize("weight", UNSOUND)
def test_a_weight_that_is_none_is_nan_in_a_record_and_stops_a_run(weight: str):
    steps = (lambda odd: odd, lambda odd: Then(odd, Subsample(4)), lambda odd: Select((Replace(), odd), 1))
    for make in steps:  # alone, before a recipe that passes it over, and picked
        chain = gaussian_chain(recipe=make(Odd(weight)))
        assert np.isnan(simulate(chain, KEY, 3)["fit.mass"]).tolist() == [False, True, False]
    with pytest.raises(GenlossError, match="negative, infinite or NaN at generation 1"):
        run(chain, KEY, 3, every=3)  # pyright: ignore


def test_few_of_many_rows_keep_a_weight_that_is_none():
    pool = Pool.of(jnp.arange(100.0))
    weight = jnp.zeros(100).at[jnp.array([7, 50])].set(jnp.array([2.0, -1.0]))
    assert np.isnan(pool.weighed(weight).compact(10).weight.sum())
    assert pool.weighed(jnp.abs(weight)).compact(10).weight.sum() == 3


@dataclass(frozen=True)
class Mute(Gaussian):
    """Writes no number."""

    def sample(self, key: Any, params: Any, n: int) -> Any:
        return super().sample(key, params, n).at[0].set(jnp.nan)


@pytest.mark.parametrize(("recipe", "t"), [(Accumulate(), 0), (Replace(), 2)])
def test_rows_that_are_nan_stop_a_run_at_once(recipe: Any, t: int):
    chain = Chain(source=Truth(Gaussian(1)), generator=Mute(1), recipe=recipe, real=10, rows=10, held_out=0)
    with pytest.raises(GenlossError, match="Mute wrote rows that are NaN at generation 0"):
        run(chain, KEY, 3)
    with pytest.raises(GenlossError, match=f"Mute wrote rows that are NaN at generation {t}"):
        run(chain, KEY, 3, every=3)


def test_memory_of_an_accumulating_chain_is_stated_and_grows_linearly():
    chain = gaussian_chain(recipe=Accumulate(), real=50, rows=30)
    rows = [int(estimate(chain, jax.random.key(0), n)["pool"].split()[0]) for n in (10, 20, 40)]
    assert rows[1] - rows[0] == 10 * 30 and rows[2] - rows[1] == 20 * 30
    assert "of pools" in estimate(chain, jax.random.key(0), 10)["memory"]


def test_what_would_take_a_cpu_too_long_is_told_by_its_shapes_and_not_made(monkeypatch: pytest.MonkeyPatch):
    """With the same sizes as where it is timed."""
    told = [estimate(tiny_vae.sweep, KEY, 8, 2)]
    monkeypatch.setattr("simulator.running.estimate._TIMED", 0.0)
    monkeypatch.delattr(Drive, "start")
    told.append(estimate(tiny_vae.sweep, KEY, 8, 2))
    assert "of training (" in told[0]["time"] and "not timed on a CPU: an optimizer step is " in told[1]["time"]
    assert all("that a step takes" in one["memory"] for one in told)
    for name in set(told[0]) - {"time", "memory"}:
        assert told[0][name] == told[1][name]
    model: Any = tiny_vae.chain.generator
    work = 2 * 2 * fit(tiny_vae.chain) / model.steps  # of four chains
    said = float(re.findall(r"step is (\S+) operations", told[1]["time"])[0])
    assert said == pytest.approx(work, rel=0.05)
