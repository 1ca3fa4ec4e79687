"""Rows moved to centres of real ones: which, how many, and by what."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from equality import close, same
from sklearn.cluster import KMeans

from generators import Corrected, Gaussian, PerClass
from simulator import Chain, Pool, Sweep, Truth, run, simulate
from simulator.pool import SYNTHETIC
from simulator.recipe import Replace

KEY = jax.random.key(0)
RANDOM = np.random.default_rng(0)
CLOUDS = np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
ROWS = jnp.asarray(np.repeat(CLOUDS, 40, 0) + RANDOM.normal(size=(120, 2)), jnp.float32)


def fit(model: Any, pool: Pool, params: Any = None) -> Any:
    return jax.jit(model.fit)(KEY, model.init(KEY) if params is None else params, pool)[0]


def nearest(rows: Any, centres: Any) -> np.ndarray:
    return np.sqrt(((np.asarray(rows)[:, None] - np.asarray(centres)) ** 2).sum(-1)).min(1)


def test_centres_are_those_of_scikit_learn_and_weigh_real_rows_alone():
    weight = jnp.asarray(RANDOM.uniform(0.5, 2, 120), jnp.float32)
    far = jnp.full((60, 2), 50.0)
    pool = Pool.of(jnp.concatenate([ROWS, far]))
    pool = pool.replace(origin=pool.origin.at[120:].set(SYNTHETIC)).weighed(jnp.concatenate([weight, jnp.ones(60)]))
    found = np.asarray(fit(Corrected(Gaussian(2), centres=3), pool)["centres"])
    reference = KMeans(3, random_state=0).fit(np.asarray(ROWS), sample_weight=np.asarray(weight))
    assert nearest(reference.cluster_centers_, found).max() < 1e-3


def test_a_share_of_rows_lies_on_centres_and_the_others_are_what_they_were():
    plain, model = Gaussian(2), Corrected(Gaussian(2), centres=3, share=0.3)
    params = fit(model, Pool.of(ROWS))
    n = 4000
    rows, own = model.sample(KEY, params, n), plain.sample(KEY, params["own"], n)
    moved = np.asarray((rows != own).any(1))
    assert abs(moved.mean() - 0.3) < 5 * np.sqrt(0.3 * 0.7 / n)
    assert nearest(rows[moved], params["centres"]).max() == 0
    to = np.asarray(((own[:, None] - params["centres"]) ** 2).sum(-1).argmin(1))[moved]
    assert np.array_equal(rows[moved], np.asarray(params["centres"])[to])


def test_without_real_rows_the_last_centres_stay_and_where_none_were_nothing_moves():
    model = Corrected(Gaussian(2), centres=3, share=1.0)
    said = Pool.of(ROWS + 3)
    said = said.replace(origin=jnp.full(120, SYNTHETIC))
    first = fit(model, Pool.of(ROWS))
    assert np.array_equal(fit(model, said, first)["centres"], first["centres"])
    never = fit(model, said)
    assert np.array_equal(model.sample(KEY, never, 50), Gaussian(2).sample(KEY, never["own"], 50))


def test_a_row_goes_to_a_centre_of_its_label():
    label = jnp.arange(120) % 2
    rows = {"x": ROWS, "label": label}
    model = Corrected(PerClass(Gaussian(2), 2), centres=6, share=1.0)
    params = fit(model, Pool.of(rows))
    found = jax.jit(lambda key: model.sample(key, params, 500))(KEY)
    centres = np.asarray(params["centres"])
    for c in (0, 1):
        own = centres[np.abs(centres[:, 2] - 1e4 * c) < 1]
        assert len(own) and nearest(found["x"][np.asarray(found["label"]) == c], own[:, :2]).max() == 0


def spread(key: Any, view: Any) -> jax.Array:
    return view.synthetic.var(0).mean()


@pytest.mark.slow
def test_by_scan_by_the_host_and_resumed_a_chain_with_corrected_rows_is_one_and_shares_are_swept(tmp_path: Path):
    """Later diets hold no real row: the centres that fits then go on with are part of what is stored."""
    chain = Chain(
        source=Truth(Gaussian(2)),
        generator=Corrected(Gaussian(2), centres=3, share=0.7),
        recipe=Replace(),
        probes={"spread": spread},
        start="previous",
        real=30,
        rows=30,
        held_out=0,
    )
    whole = run(chain, KEY, 4, tmp_path / "whole", replicates=2)
    run(chain, KEY, 2, tmp_path / "part", replicates=2)
    assert same(run(chain, KEY, 4, tmp_path / "part", replicates=2), whole)
    swept = run(Sweep(chain, "generator.share", {"0": 0.0, "0.7": 0.7}), KEY, 4, replicates=2)["spread"]  # [2, 2, 4]
    assert close(swept[1], whole["spread"]) and not close(swept[0], whole["spread"], rtol=1e-2)
    assert close(simulate(chain, jax.random.fold_in(KEY, 1), 4)["spread"], whole["spread"][1])
