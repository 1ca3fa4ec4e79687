"""Feature spaces: maps from rows to vectors [n, d] in which distances are taken.

A feature space is a function `rows -> [n, d]`, or a frozen dataclass with `prepare(key, source) -> learned`, called
once per run before generation 0, and `__call__(rows, learned) -> [n, d]`.  Probes ask for it by
`view.embed(features, rows)`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np

from simulator.abilities import Finite
from simulator.checks import fields
from simulator.checks.fields import Count, Positive, Range
from simulator.checks.foreign import read_tensors
from simulator.pool import Rows
from simulator.probes.classifier import Network, Rule, check, in_blocks, merged, skeleton, train
from simulator.sources.split import split_of
from simulator.types import Array, GenlossError, Key, Params, Source


def flat(rows: Rows) -> Array:
    """The row itself as a float32 vector, [n, d]: the image of {"image", ...}, with uint8 scaled to [0, 1]."""
    x = rows["image"] if isinstance(rows, dict) else rows
    scale = 255 if x.dtype == jnp.uint8 else 1
    return x.reshape(x.shape[0], -1).astype(jnp.float32) / scale


def pictures(rows: Rows) -> Array:
    """Images as float32 [n, h, w, c], bytes scaled to [0, 1]; points as they are, [n, d]."""
    x = rows["image"] if isinstance(rows, dict) else rows
    return x.astype(jnp.float32) / (255 if x.dtype == jnp.uint8 else 1)


@dataclass(frozen=True)
class Pca:
    """The first `dim` principal components of real training rows, [n, dim], in the units of the row."""

    dim: Count = 32
    rows: Annotated[int, Range(2)] = 10_000  # training rows they are found from, at most

    __post_init__ = fields.check

    def prepare(self, key: Key, source: Source) -> dict[str, Array]:
        """{"mean": [d], "basis": [d, dim]}."""
        x = flat(training(key, source, self.rows))  # [rows, d]
        if self.dim > x.shape[1]:
            raise GenlossError(f"Pca(dim={self.dim}) asks for more components than the rows have: {x.shape[1]}.")
        mean = x.mean(0)
        scatter = jnp.matmul((x - mean).T, x - mean, precision="highest")  # [d, d]
        _, vectors = jnp.linalg.eigh(scatter)  # [d, d], eigenvalues ascending
        return {"mean": mean, "basis": vectors[:, ::-1][:, : self.dim]}

    def __call__(self, rows: Rows, learned: dict[str, Array]) -> Array:
        return (flat(rows) - learned["mean"]) @ learned["basis"]


@dataclass(frozen=True)
class Learned:
    """The last hidden layer of a classifier trained on real training rows, [n, width].

    Where a network meant for these very rows stands in for Inception, its features are that of the Fréchet distances of
    small images in the literature.  `network(inputs, classes, rngs=...)` builds a flax.nnx module with
    `features(x) -> [n, width]`, and `inputs` is the shape of an image, (h, w, c), or the length of a vector.  Training
    is that of the probe `Downstream`: Adam on cross-entropy for a fixed number of steps.
    """

    network: Network
    steps: Count = 1000  # optimizer steps
    batch: Count = 128  # rows per step
    learning_rate: Positive = 3e-3  # falling to 0 along a cosine
    rule: Rule = "adam"  # what is made of gradients; or muon
    rows: Count | None = None  # real training rows it learns from, at most; None takes all
    augment: bool = False  # shift each image of a batch by up to an eighth of its side
    flips: bool = False  # and mirror every second one

    __post_init__ = check

    def prepare(self, key: Key, source: Source) -> dict[str, Any]:
        """{"network": parameters, "labels": [classes] int32, what each logit stands for}."""
        kinds = classes_of(source)
        for_rows, for_training = jax.random.split(key)
        rows = training(for_rows, source, self.rows)  # leaves [rows, ...]
        weight = jnp.ones(rows["label"].shape)  # [rows]
        # Rows are an argument of the program: as constants of it they would be compiled in.
        learn = jax.jit(lambda key, rows, weight: train(self, key, rows, weight, pictures, kinds))
        return {"network": learn(for_training, rows, weight), "labels": jnp.arange(kinds)}

    def __call__(self, rows: Rows, learned: dict[str, Any]) -> Array:
        return _embedded(self.network, rows, learned)

    def logits(self, rows: Rows, learned: dict[str, Any]) -> Array:
        """What the classifier says of rows, [n, classes]."""
        return _judged(self.network, rows, learned)


@dataclass(frozen=True)
class Stored:
    """The last hidden layer, [n, width], of a network whose weights are in a safetensors file.

    Names in the file are the paths of the module's parameters, `layers.0.kernel`, as `save` writes them; a network
    with the names and layout of another framework (`Inception`) reads its files as they are.  Nothing is unpickled.
    """

    network: Network
    weights: str  # the safetensors file
    outputs: Count | None = None  # logits of the network; None takes the number of the source's classes
    ignore: tuple[str, ...] = ("num_batches_tracked", "AuxLogits")  # parts of names in the file that are passed over

    def prepare(self, key: Key, source: Source) -> dict[str, Any]:
        """{"network": parameters, "labels": [outputs] int32}, from the file."""
        kinds = classes_of(source) if self.outputs is None else self.outputs
        inputs = jax.eval_shape(lambda: pictures(source.draw(jax.random.key(0), 1))).shape[1:]
        like = skeleton(self.network, inputs, kinds)[1]
        return {"network": load(self.weights, like, self.ignore), "labels": jnp.arange(kinds)}

    def __call__(self, rows: Rows, learned: dict[str, Any]) -> Array:
        return _embedded(self.network, rows, learned)

    def logits(self, rows: Rows, learned: dict[str, Any]) -> Array:
        """What the network says of rows, [n, outputs]."""
        return _judged(self.network, rows, learned)


def _network(network: Network, rows: Rows, learned: dict[str, Any]) -> Any:
    inputs = jax.eval_shape(pictures, rows).shape[1:]
    return merged(network, inputs, learned["labels"].shape[0], learned["network"])


def _embedded(network: Network, rows: Rows, learned: dict[str, Any]) -> Array:
    module = _network(network, rows, learned)
    if not hasattr(module, "features"):
        raise GenlossError(f"{type(module).__name__} is no feature space; give it `features(x) -> [n, width]`.")
    return in_blocks(lambda block: module.features(pictures(block)), rows)


def _judged(network: Network, rows: Rows, learned: dict[str, Any]) -> Array:
    module = _network(network, rows, learned)
    return in_blocks(lambda block: module(pictures(block)), rows)


def save(path: str | os.PathLike[str], learned: dict[str, Any]) -> None:
    """Writes the network of what `Learned` or `Stored` prepared to a safetensors file, which `Stored` reads."""
    from safetensors.numpy import save_file

    save_file({name: np.ascontiguousarray(leaf) for name, leaf in _named(learned["network"]).items()}, path)


def load(path: str | os.PathLike[str], like: Params, ignore: tuple[str, ...] = ()) -> Params:
    """The parameters in a safetensors file, in the structure and shapes of `like`, as float32."""
    found = read_tensors(Path(path))
    found = {name: leaf for name, leaf in found.items() if not any(part in name for part in ignore)}
    wanted = _named(like)
    absent, unasked = wanted.keys() - found.keys(), found.keys() - wanted.keys()
    if absent:
        raise GenlossError(
            f"{path} lacks {len(absent)} of the network's {len(wanted)} weights, such as {min(absent)}; choose the "
            "network that it was saved from."
        )
    if unasked:
        raise GenlossError(
            f"{path} has {len(unasked)} weights that the network has no place for, such as {min(unasked)}; choose the "
            "network that it was saved from, or name them in `ignore`."
        )
    for name, leaf in wanted.items():
        if found[name].shape != leaf.shape:
            raise GenlossError(
                f"{name} is {list(found[name].shape)} in {path} and {list(leaf.shape)} in the network; choose the "
                "widths, the shape of rows and the number of outputs that it was saved with."
            )
    leaves = [jnp.asarray(found[name], jnp.float32) for name in wanted]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def _named(params: Params) -> dict[str, Any]:
    """Leaves by their path, "layers.0.kernel", in the order of `jax.tree.leaves`."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    }


def training(key: Key, source: Source, most: int | None = None) -> Rows:
    """Real training rows, leaves [<= most, ...]: all of a data set for None, and 10,000 of an endless source."""
    size = source.size if isinstance(source, Finite) else None
    split = split_of(source)
    n = min(most or size or 10_000, size or most or 10_000)
    if split is not None and n == size:
        return jax.tree.map(jnp.asarray, split.train)
    return source.draw(key, n)


def squared_distances(a: Array, b: Array) -> Array:
    """‖a_i - b_j‖², [n, m], by one matmul; never below 0."""
    product = jnp.matmul(a, b.T, precision="highest")  # [n, m]; small differences of large numbers follow
    return jnp.maximum((a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * product, 0)


def classes(rows: Rows) -> int:
    """Number of classes among labelled rows, which must be concrete (a probe's reference is)."""
    if not (isinstance(rows, dict) and "label" in rows):
        raise GenlossError("This probe needs rows with a label; give the chain such a source, or leave the probe out.")
    return int(np.asarray(rows["label"]).max()) + 1


def classes_of(source: Source) -> int:
    """Number of classes that a source knows of: those of its data set, or those among 1,000 of its held-out rows."""
    split = split_of(source)
    if split is not None and split.classes:
        return len(split.classes)
    with jax.ensure_compile_time_eval():
        return classes(source.draw(jax.random.key(0), 1000, held_out=True))
