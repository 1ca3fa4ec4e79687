"""`Prompted`: a class told by variants, found by k-means of the diet."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from generators import VAE, Prompted
from simulator import GenlossError, Pool
from simulator.pool import Rows

KINDS, VARIANTS = 3, 4


@dataclass(frozen=True)
class Means:
    """Says the mean row of a label: a sampler at temperature 0."""

    labels: int = KINDS * VARIANTS

    def init(self, key: jax.Array) -> Any:
        return jnp.zeros((self.labels, 2)), jnp.ones(self.labels)

    def fit(self, key: jax.Array, params: Any, pool: Pool) -> tuple[Any, dict[str, jax.Array]]:
        member = pool.weight * (pool.rows["label"] == jnp.arange(self.labels)[:, None])  # [labels, n]
        mass = member.sum(1)  # [labels]
        return (member @ pool.rows["x"] / jnp.maximum(mass, 1e-9)[:, None], mass), {}

    def sample(self, key: jax.Array, params: Any, n: int) -> Rows:
        means, mass = params
        label = jax.random.categorical(key, jnp.log(mass), shape=(n,)).astype(jnp.int32)
        return {"x": means[label], "label": label}


def vectors(rows: Rows) -> jax.Array:
    return rows["x"]


def clumps(n: int = 600, spread: float = 0.05) -> dict[str, np.ndarray]:
    """Classes of four clumps at the corners of a square, far from each other."""
    rng = np.random.default_rng(0)
    label, corner = rng.integers(0, KINDS, n), rng.integers(0, VARIANTS, n)
    at = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])[corner] + 10 * label[:, None]  # [n, 2]
    x = (at + spread * rng.normal(size=(n, 2))).astype(np.float32)
    return {"x": x, "label": label.astype(np.int32), "corner": corner.astype(np.int32)}


def told(variants: int, rows: dict[str, np.ndarray], weight: Any = None, key: int = 0) -> tuple[Any, Any]:
    model = Prompted(Means(KINDS * variants), variants, vectors).shaped(rows)
    pool = Pool.of(jax.tree.map(jnp.asarray, {k: rows[k] for k in ("x", "label")}))
    pool = pool if weight is None else pool.weighed(jnp.asarray(weight, jnp.float32))
    return model, model.fit(jax.random.key(key), model.init(jax.random.key(1)), pool)[0]


def test_variants_are_least_squares_and_share_out_the_variance():
    """Total variance of a class is that between its variants and that within them; Lloyd's end is a local least."""
    rows = clumps(spread=0.3)
    _, params = told(VARIANTS, rows)
    means, mass = (np.asarray(a, np.float64) for a in params)
    assert np.isclose(mass.sum(), len(rows["x"]))
    for kind in range(KINDS):
        x, own = rows["x"][rows["label"] == kind].astype(np.float64), slice(kind * VARIANTS, (kind + 1) * VARIANTS)
        square = ((x[:, None] - means[own]) ** 2).sum(-1)  # [n, variants]
        group = square.argmin(1)
        assert np.array_equal(np.bincount(group, minlength=VARIANTS), mass[own])  # each row with its nearest mean
        within = square.min(1).sum()
        between = (mass[own] * ((means[own] - x.mean(0)) ** 2).sum(1)).sum()
        assert np.isclose(within + between, ((x - x.mean(0)) ** 2).sum(), rtol=1e-4)
        assert within < 0.6 * ((x - x.mean(0)) ** 2).sum()


def test_samples_have_a_mode_a_variant_and_the_label_of_their_class():
    rows = clumps()
    for variants in (1, VARIANTS):
        model, params = told(variants, rows)
        said = jax.tree.map(np.asarray, model.sample(jax.random.key(2), params, 2000))
        assert said["label"].max() == KINDS - 1
        for kind in range(KINDS):
            modes = np.unique(said["x"][said["label"] == kind], axis=0)
            assert len(modes) == variants
            assert (np.abs(modes - 10 * kind - 0.5) < 1).all()  # of this class, whatever the variant


def test_one_variant_is_the_inner_generator():
    rows = {k: v for k, v in clumps().items() if k != "corner"}
    _, params = told(1, rows)
    pool = Pool.of(jax.tree.map(jnp.asarray, rows))
    inner = Means(KINDS).fit(jax.random.split(jax.random.key(0))[1], None, pool)[0]
    assert jax.tree.all(jax.tree.map(np.array_equal, params, inner))


def test_rows_without_weight_are_not_heard_and_a_lost_class_is_never_said():
    rows = clumps()
    odd = {k: np.concatenate([v, v[:50] + (np.float32(100) if k == "x" else 0)]) for k, v in rows.items()}
    weight = (np.arange(650) < 600) & (odd["label"] != 1)
    model, (means, mass) = told(VARIANTS, odd, weight)
    assert np.isfinite(means).all() and (np.asarray(means) < 30).all()
    assert np.asarray(mass)[VARIANTS : 2 * VARIANTS].sum() == 0
    assert set(np.asarray(model.sample(jax.random.key(0), (means, mass), 500)["label"])) == {0, 2}


def test_the_inner_generator_is_shaped_for_all_prompts():
    image = np.zeros((30, 4, 4, 1), np.uint8)
    model = Prompted(VAE(hidden=(8,), steps=10), 5).shaped({"image": image, "label": np.arange(30) % 3})
    assert model.classes == 3 and model.generator.classes == 15  # pyright: ignore[reportAttributeAccessIssue]


def test_bad_input_is_one_sentence():
    with pytest.raises(GenlossError, match=r"Prompted\(variants=0\) must be a whole number of at least 1"):
        Prompted(Means(), 0)
    with pytest.raises(GenlossError, match="needs rows with a label"):
        Prompted(Means()).shaped(np.zeros((3, 2)))
