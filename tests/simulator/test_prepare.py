"""What probes learn before generation 0: once, the same for all, stored with the run."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import gaussian_chain
from sklearn.decomposition import PCA

from generators import Gaussian
from simulator import Chain, Dataset, GenlossError, Store, Sweep, Truth, View, ensemble, run, simulate
from simulator.abilities import students
from simulator.probes import Fidelity
from simulator.probes.features import Pca, flat, training
from simulator.running import files
from simulator.running.pacing import Progress
from simulator.running.prepare import perfect

CALLS: list[str] = []


@dataclass(frozen=True)
class Scale:
    """Rows over the standard deviation of real ones, [n, d]."""

    name: str = "scale"

    def prepare(self, key: Any, source: Any) -> dict[str, Any]:
        CALLS.append(self.name)
        return {"sd": source.draw(key, 500).std(0), "more": (jnp.arange(3), [jnp.float32(2.0)])}

    def __call__(self, rows: Any, learned: dict[str, Any]) -> Any:
        return flat(rows) / learned["sd"]


@dataclass(frozen=True)
class Spread:
    """Variance in a feature space, and what the probe itself learned."""

    features: Any = Scale()

    def prepare(self, key: Any, source: Any) -> Any:
        return source.draw(key, 1)[0]

    def __call__(self, key: Any, view: View) -> dict[str, Any]:
        return {"variance": view.embed(self.features, view.synthetic).var(), "first": view.prepared[self][0]}


def chain_of(**fields: Any) -> Chain:
    truth = Truth(Gaussian(2))
    probes = {"spread": Spread(), "again": Spread(Scale("scale")), "plain": Spread(flat)}
    fields = {"probes": probes, "held_out": 20, "real": 30, "rows": 30, **fields}
    return Chain(source=truth, generator=Gaussian(2), **fields)


def test_equal_ones_are_prepared_once_and_seen_by_the_probes():
    CALLS.clear()
    chain = chain_of()
    assert list(students(chain.probes).values()) == ["spread", "spread.features", "plain"]
    found = simulate(chain, jax.random.key(0), 3)
    assert CALLS == ["scale"]
    learned = chain.prepared[Scale()]
    assert np.allclose(learned["sd"], 1, atol=0.15)
    assert np.array_equal(found["spread.variance"], found["again.variance"])
    assert np.allclose(found["plain.first"], chain.prepared[Spread(flat)][0])


def stop_after_two(progress: Progress) -> None:
    if progress.done == 2:
        raise KeyboardInterrupt


@pytest.mark.slow
def test_stored_with_the_run_and_read_when_it_goes_on(tmp_path: Path):
    key = jax.random.key(1)
    whole = run(chain_of(), key, 4, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(chain_of(), key, 4, tmp_path / "parts", report=stop_after_two)
    assert Store(tmp_path / "parts").steps() == [0, 1]
    CALLS.clear()
    parts = run(resumed := chain_of(), key, 4, tmp_path / "parts")
    assert CALLS == ["scale"]  # its shapes alone, by eval_shape
    assert jax.tree.all(jax.tree.map(np.array_equal, whole, parts))
    learned, anew = (list(chain.prepared.values()) for chain in (resumed, chain_of()))
    assert jax.tree.all(jax.tree.map(np.array_equal, learned, anew))
    file, signature = tmp_path / "parts" / "prepared.npz", Store(tmp_path / "parts").signature
    changed = files.load_arrays(file, signature)
    assert set(changed) == {"spread/0", "plain/0", *(f"spread.features/{i}" for i in range(3))}
    changed["spread/0"] = changed["spread/0"] + 1  # what is stored is what is used
    file.write_bytes(files.dump_arrays(signature, changed))
    longer = run(chain_of(), key, 5, tmp_path / "parts")
    assert np.allclose(longer["spread.first"][-1], whole["spread.first"][0] + 1)


def test_settings_and_ensembles_share_what_was_prepared(tmp_path: Path):
    CALLS.clear()
    sweep = Sweep(chain_of(), "generator.bias", {"a": 0.5, "b": 1.0})
    found = run(sweep, jax.random.key(0), 3, tmp_path / "run", replicates=2)
    assert CALLS == ["scale"]
    once = ensemble(sweep.make, jnp.array([0.5, 1.0]), jax.vmap(lambda r: jax.random.fold_in(jax.random.key(0), r))(
        jnp.arange(2)), 3)  # fmt: skip
    assert np.allclose(found["spread.variance"], once["spread.variance"], rtol=1e-4)


def test_components_against_scikit_learn():
    source = Dataset.digits()
    pca = Pca(8, rows=1438)
    learned = pca.prepare(jax.random.key(0), source)
    x = np.asarray(flat(source.split.train))
    reference = PCA(8, svd_solver="full").fit(x)
    test = flat(source.draw(jax.random.key(1), 50, held_out=True))
    ours, theirs = np.asarray(pca({"image": test}, learned)), reference.transform(np.asarray(test))
    assert np.allclose(np.abs(ours), np.abs(theirs), atol=2e-3)
    with pytest.raises(GenlossError, match="more components than the rows have"):
        Pca(100).prepare(jax.random.key(0), source)


@pytest.mark.slow
def test_measures_in_components_differ_from_those_of_pixels():
    chain = Chain(
        source=Truth(Gaussian(6)),
        generator=Gaussian(6),
        probes={"all": Fidelity(), "two": Fidelity(Pca(2, rows=200))},
        held_out=60,
        real=60,
        rows=60,
    )
    found = simulate(chain, jax.random.key(0), 2)
    assert np.isfinite(found["two.frechet"]).all() and (found["two.frechet"] < found["all.frechet"]).all()


@dataclass(frozen=True)
class Partly:
    """Of its three results one has a ceiling."""

    no_ceiling = ("fitted", "more")

    def __call__(self, key: Any, view: View) -> dict[str, Any]:
        return {"said": view.synthetic.mean(), "fitted": view.params.mean[0], "more": {"a": view.synthetic.sum()}}


def test_the_ceiling_leaves_out_what_has_none(tmp_path: Path):
    run(chain_of(probes={"p": Partly()}), jax.random.key(0), 1, tmp_path / "run")
    assert set(Store(tmp_path / "run").ceiling()) == {"fit.mass", "p.said"}


def test_the_noise_of_a_measure_is_that_of_means_of_as_many_real_rows(tmp_path: Path):
    """The mean of 10 standard normal rows deviates by 10^-½; of 400 replicates that is known to 4 %."""
    chain = gaussian_chain(probes={"p": Partly()}, real=10, rows=10)
    run(chain, jax.random.key(0), 1, tmp_path / "run", replicates=400)
    noise = Store(tmp_path / "run").noise()
    assert set(noise) == {"fit.mass", "p.said"} and noise["fit.mass"] == 0
    assert abs(noise["p.said"] * 10**0.5 - 1) < 5 / 800**0.5
    run(chain, jax.random.key(0), 1, tmp_path / "one")
    assert Store(tmp_path / "one").noise() == {}


def test_training_rows_of_a_source():
    assert training(jax.random.key(0), Dataset.digits())["image"].shape[0] == 1438
    assert training(jax.random.key(0), Dataset.digits(), 100)["image"].shape[0] == 100
    assert training(jax.random.key(0), Truth(Gaussian(2)), 50).shape == (50, 2)
    assert students(gaussian_chain().probes) == {}


def reals(key: Any, view: View) -> dict[str, Any]:
    """How many of what is said are rows of the diet; and chance, told apart by probe."""
    near = (view.synthetic[:, None] == view.diet.rows[None]).all(-1) & view.diet.filled[None]  # [rows, capacity]
    return {"of the diet": near.any(1).sum(), "chance": jax.random.uniform(key)}


def test_the_ceiling_is_measured_on_real_rows_that_are_not_in_its_diet(tmp_path: Path):
    chain = chain_of(probes={"p": reals})
    run(chain, jax.random.key(0), 1, tmp_path / "truth")
    assert Store(tmp_path / "truth").ceiling()["p.of the diet"] == 0
    digits = Chain(source=Dataset.digits(), generator=Gaussian(2), real=700, rows=700)
    diet, sample, _ = perfect(digits, jax.random.key(0), 700)
    rows = [np.asarray(a["image"]).reshape(700, -1) for a in (diet.rows, sample)]
    assert len(np.unique(np.concatenate(rows), axis=0)) == 1400  # disjoint slices of one permutation


def test_each_probe_has_a_key_of_its_own_at_each_generation():
    found = simulate(chain_of(probes={"a": reals, "b": reals}), jax.random.key(0), 3)
    chance = np.concatenate([found["a.chance"], found["b.chance"]])
    assert len(np.unique(chance)) == 6
