"""Feature spaces learned from real rows, and those read from a file."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from sklearn.decomposition import PCA

from generators import Gaussian
from generators.nets.mlp import MLP
from simulator import Chain, Dataset, GenlossError, Pool, Truth, run
from simulator.pool import take
from simulator.probes.classifier import in_blocks
from simulator.probes.features import Learned, Pca, Stored, flat, load, save

SOURCE = Dataset.digits()


@dataclass(frozen=True)
class Spread:
    """Variance of samples in a feature space."""

    features: Any

    def __call__(self, key: Any, view: Any) -> jax.Array:
        return view.embed(self.features, view.synthetic).var(0).sum()


SPACE = Learned(partial(MLP, hidden=(32,)), steps=200, batch=64, learning_rate=1e-2)


@dataclass(frozen=True)
class Blur:
    """A generator of images of four classes: the mean image of the diet, and noise."""

    def init(self, key: Any) -> jax.Array:
        return jnp.zeros((8, 8, 1))

    def fit(self, key: Any, params: jax.Array, pool: Pool) -> tuple[jax.Array, dict[str, Any]]:
        return jnp.tensordot(pool.weight, pool.rows["image"].astype(jnp.float32), 1) / pool.weight.sum(), {}

    def sample(self, key: Any, params: jax.Array, n: int) -> Any:
        image = params + 20 * jax.random.normal(key, (n, *params.shape))
        return {"image": jnp.clip(image, 0, 255).astype(jnp.uint8), "label": jnp.arange(n, dtype=jnp.int32) % 4}


@pytest.fixture(scope="module")
def learned() -> Any:
    return SPACE.prepare(jax.random.key(0), SOURCE)


@pytest.fixture(scope="module")
def test_rows() -> Any:
    return jax.tree.map(jnp.asarray, SOURCE.split.test)


def test_a_learned_space_tells_held_out_rows_apart(learned: Any, test_rows: Any):
    said = SPACE.logits(test_rows, learned)
    assert said.shape == (359, 10)
    assert float((said.argmax(-1) == test_rows["label"]).mean()) > 0.93
    found = SPACE(test_rows, learned)
    assert found.shape == (359, 32) and found.dtype == jnp.float32
    head = learned["network"]["layers"][1]
    assert np.allclose(found @ head["kernel"] + head["bias"], said, atol=1e-4)  # the head reads these features


def test_what_is_learned_is_known_in_shape_beforehand(learned: Any):
    """Without training, which is how a stored run knows what to read."""
    known = jax.eval_shape(lambda: SPACE.prepare(jax.random.key(0), SOURCE))
    assert jax.tree.structure(known) == jax.tree.structure(learned)
    assert jax.tree.map(lambda a: (a.shape, a.dtype), known) == jax.tree.map(lambda a: (a.shape, a.dtype), learned)


def test_learning_from_few_rows_and_from_a_truth(test_rows: Any):
    few = Learned(SPACE.network, steps=200, batch=64, learning_rate=1e-2, rows=30)
    accuracy = (few.logits(test_rows, few.prepare(jax.random.key(0), SOURCE)).argmax(-1) == test_rows["label"]).mean()
    assert 0.4 < float(accuracy) < 0.9
    space = Learned(SPACE.network, steps=2)
    assert space.prepare(jax.random.key(0), Truth(Blur()))["labels"].tolist() == [0, 1, 2, 3]
    with pytest.raises(GenlossError, match="label"):
        space.prepare(jax.random.key(0), Truth(Gaussian(2)))


def test_rows_in_blocks_are_rows_at_once():
    rows = {"image": np.arange(3 * 1103, dtype=np.float32).reshape(1103, 3), "label": np.arange(1103)}
    f = lambda r: r["image"] * 2 + r["label"][:, None]  # noqa: E731
    for block in (1, 500, 551, 1103, 2000):
        assert np.array_equal(in_blocks(f, rows, block), f(rows))


@pytest.mark.slow
def test_chains_share_a_learned_space_and_a_resumed_run_reads_it(tmp_path: Path):
    probes = {"spread": Spread(Learned(partial(MLP, hidden=(8,)), steps=20))}
    make = lambda: Chain(source=SOURCE, generator=Blur(), probes=probes, real=20, rows=20)  # noqa: E731
    whole = run(make(), jax.random.key(0), 3, replicates=2)
    first = run(make(), jax.random.key(0), 2, replicates=2, store=tmp_path / "run")
    stored = (tmp_path / "run" / "prepared.npz").read_bytes()
    resumed = run(make(), jax.random.key(0), 3, replicates=2, store=tmp_path / "run")
    assert (tmp_path / "run" / "prepared.npz").read_bytes() == stored
    assert np.array_equal(resumed["spread"], whole["spread"]) and np.array_equal(
        first["spread"], whole["spread"][:, :2]
    )
    assert np.asarray(whole["spread"]).std() > 0


# Weights in a file.


@pytest.fixture
def file(tmp_path: Path, learned: Any) -> Path:
    save(tmp_path / "weights.safetensors", learned)
    return tmp_path / "weights.safetensors"


def test_a_stored_network_is_the_one_that_was_saved(file: Path, learned: Any, test_rows: Any):
    space = Stored(SPACE.network, str(file))
    read = space.prepare(jax.random.key(9), SOURCE)
    assert jax.tree.structure(read) == jax.tree.structure(learned)
    assert all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(read), jax.tree.leaves(learned), strict=True))
    assert np.array_equal(space(test_rows, read), SPACE(test_rows, learned))
    assert np.array_equal(space.logits(test_rows, read), SPACE.logits(test_rows, learned))
    assert set(load_file(file)) == {f"layers.{i}.{name}" for i in (0, 1) for name in ("kernel", "bias")}


def test_half_precision_is_read_as_single(file: Path, learned: Any):
    save_file({name: leaf.astype(np.float16) for name, leaf in load_file(file).items()}, file)
    read = load(file, learned["network"])
    for a, b in zip(jax.tree.leaves(read), jax.tree.leaves(learned["network"]), strict=True):
        assert a.dtype == jnp.float32 and np.allclose(a, b, rtol=2e-3, atol=1e-4)


def test_what_is_wrong_with_a_file_is_said(file: Path, tmp_path: Path):
    def said(network: Any = SPACE.network, path: Path = file, **fields: Any) -> str:
        with pytest.raises(GenlossError) as error:
            Stored(network, str(path), **fields).prepare(jax.random.key(0), SOURCE)
        return str(error.value)

    assert "no file of weights" in said(path=tmp_path / "none.safetensors")
    (tmp_path / "pickle.pt").write_bytes(b"\x80\x04K\x01.")
    assert "no safetensors file" in said(path=tmp_path / "pickle.pt")
    assert "lacks 2 of the network's 6 weights, such as layers.2.bias" in said(partial(MLP, hidden=(32, 10)))
    assert "no place for, such as layers.1.bias" in said(partial(MLP, hidden=()))
    assert "layers.0.bias is [32]" in said(partial(MLP, hidden=(31,)))
    assert "layers.1.bias is [10]" in said(outputs=11)


def test_names_beyond_the_network_can_be_passed_over(file: Path):
    save_file({**load_file(file), "layers.0.num_batches_tracked": np.zeros(1), "extra.one": np.zeros(1)}, file)
    with pytest.raises(GenlossError, match=r"1 weights that the network has no place for, such as extra\.one"):
        Stored(SPACE.network, str(file)).prepare(jax.random.key(0), SOURCE)
    Stored(SPACE.network, str(file), ignore=("num_batches", "extra")).prepare(jax.random.key(0), SOURCE)


def test_principal_components_against_scikit_learn():
    space = Pca(5)
    found = space(take(SOURCE.split.train, jnp.arange(50)), space.prepare(jax.random.key(0), SOURCE))
    rows = np.asarray(flat(jax.tree.map(jnp.asarray, SOURCE.split.train)))
    expected = PCA(5, svd_solver="full").fit(rows).transform(rows[:50])
    assert np.allclose(np.abs(found), np.abs(expected), atol=2e-3)
