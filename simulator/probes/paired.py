"""What a generation does to models of pictures and captions: finding one by the other, and saying what is seen."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from simulator.checks.fields import Count, Positive, check
from simulator.numerics.selection import draw
from simulator.pool import Rows, count, take
from simulator.probes.classifier import Network, in_blocks, started
from simulator.probes.features import pictures
from simulator.probes.finite import counted, where_finite, where_number
from simulator.sources.scenes import PAD, START, said
from simulator.types import Array, GenlossError, Key, Params, View


@dataclass(frozen=True)
class Retrieval:
    """Two towers trained on the diet's pairs {"image", "caption"} to give a picture and its caption the same direction
    (CLIP, Radford et al. 2021, arXiv:2103.00020), judged by how often held-out real pairs find each other.

    The loss is InfoNCE both ways over a batch, with a learned temperature; equal captions are each other's answer too.
    recall.k: share of queries with a right answer among the k nearest by cosine; by chance about k / reference_rows.
    `images(inputs, width, rngs=...)` reads pictures [n, h, w, c], `texts(length, width, rngs=...)` numbers [n, length].

    caption_of_image | recall at each of `ks` of captions by their pictures | [0, 1] | higher is better | O(steps · batch² + m²)
    image_of_caption | recall at each of `ks` of pictures by their captions | [0, 1] | higher is better | as caption_of_image
    reference_rows | real pairs judged | count | neither | free
    """  # noqa: E501

    images: Network
    texts: Network
    width: Count = 32  # of the space both towers share
    ks: tuple[Count, ...] = (1, 5, 10)
    steps: Count = 500  # optimizer steps
    batch: Count = 64  # pairs per step, drawn in proportion to weight
    learning_rate: Positive = 2e-3  # of Adam, falling to 0 along a cosine

    __post_init__ = check

    def __call__(self, key: Key, view: View) -> dict[str, Any]:
        pairs = jax.lax.optimization_barrier(_pairs(view.reference))
        for_images, for_texts, for_training = jax.random.split(key, 3)
        see, first = started(self.images, jax.eval_shape(pictures, pairs).shape[1:], self.width, for_images)
        read, second = started(self.texts, pairs["caption"].shape[1:], self.width, for_texts)

        def directions(params: Params, rows: Rows) -> tuple[Array, Array]:
            """[n, width] each, of length 1."""
            x = in_blocks(lambda block: nnx.merge(see, params["images"])(pictures(block)), rows)
            y = nnx.merge(read, params["texts"])(rows["caption"])
            return _unit(x), _unit(y)

        def loss(params: Params, rows: Rows) -> Array:
            x, y = directions(params, rows)
            logits = jnp.exp(params["scale"]) * x @ y.T  # [batch, batch]
            same = _same(rows["caption"]).astype(jnp.float32)  # [batch, batch]
            target = same / same.sum(1, keepdims=True)
            both = (optax.softmax_cross_entropy(a, target) for a in (logits, logits.T))  # same is symmetric
            return sum(part.mean() for part in both) / 2  # pyright: ignore[reportReturnType]

        params = {"images": first, "texts": second, "scale": jnp.log(jnp.float32(1 / 0.07))}
        x, y = directions(_trained(self, for_training, loss, params, view), pairs)
        given = counted(view.diet.rows, view.diet.weight)
        same, near = _same(pairs["caption"]), jnp.matmul(x, y.T, precision="highest")  # [m, m] each
        found = {
            "caption_of_image": {str(k): recall_at(near, same, k) for k in self.ks},
            "image_of_caption": {str(k): recall_at(near.T, same, k) for k in self.ks},
        }
        return {**where_finite(found, given), "reference_rows": count(pairs)}


@dataclass(frozen=True)
class Captioning:
    """An image-to-text transformer trained on the diet's pairs {"image", "caption"}, judged by what it says of held-out
    real pictures, the likeliest word after the other.

    `network(inputs, vocabulary, rngs=...)` builds a module from pictures [n, h, w, c] and numbers [n, length] to
    logits [n, length, vocabulary] of each next number, such as `generators.nets.captions.Captioner`.  BLEU, that of
    sacrebleu, and CIDEr-D (`cider`) are taken on the host, in a callback of the compiled step.

    bleu | n-grams of up to 4 words shared with the right captions | [0, 100] | higher is better | O(steps · batch)
    cider | the same, rare ones weighing more (CIDEr-D) | [0, 10] | higher is better | as bleu
    exact | share of captions that are right to the word | [0, 1] | higher is better | as bleu
    nll | mean negative log-likelihood of a word of the right captions | nats, >= 0 | lower is better | free
    reference_rows | real pairs judged | count | neither | free
    """

    network: Network
    vocabulary: Count  # numbers that captions are made of
    steps: Count = 500  # optimizer steps
    batch: Count = 64  # pairs per step, drawn in proportion to weight
    learning_rate: Positive = 2e-3  # of Adam, falling to 0 along a cosine

    __post_init__ = check

    def __call__(self, key: Key, view: View) -> dict[str, Any]:
        pairs = jax.lax.optimization_barrier(_pairs(view.reference))
        for_net, for_training = jax.random.split(key)
        graph, params = started(self.network, jax.eval_shape(pictures, pairs).shape[1:], self.vocabulary, for_net)

        def loss(params: Params, rows: Rows) -> Array:
            logits = nnx.merge(graph, params)(pictures(rows), rows["caption"][:, :-1])  # [n, length - 1, vocabulary]
            next_one = rows["caption"][:, 1:]
            each = optax.softmax_cross_entropy_with_integer_labels(logits, next_one)  # [n, length - 1]
            there = next_one != PAD
            return (each * there).sum() / there.sum()

        params = _trained(self, for_training, loss, params, view)
        network = nnx.merge(graph, params)
        spoken = in_blocks(lambda rows: spoken_of(network, pictures(rows), pairs["caption"].shape[1]), pairs)
        shape = jax.ShapeDtypeStruct((3,), jnp.float32)
        bleu_, cider_, exact = jax.pure_callback(_judged, shape, spoken, pairs["caption"], vmap_method="sequential")
        found = {"bleu": bleu_, "cider": cider_, "exact": exact, "nll": loss(params, pairs)}
        given = counted(view.diet.rows, view.diet.weight)
        return {**where_finite(found, given, params), "reference_rows": count(pairs)}


def spoken_of(network: Any, images: Array, length: int) -> Array:
    """What a captioner says of images [n, h, w, c], the likeliest number after the other, int32 [n, length]."""
    start = jnp.full((images.shape[0], length), PAD, jnp.int32).at[:, 0].set(START)

    def more(i: Array, spoken: Array) -> Array:
        logits = network(images, spoken)  # [n, length, vocabulary]: of the number after each
        return spoken.at[:, i + 1].set(logits[:, i].argmax(-1).astype(jnp.int32))

    return jax.lax.fori_loop(0, length - 1, more, start)


def recall_at(near: Array, right: Array, k: int) -> Array:
    """Share of queries with a right answer among the k nearest: near [n, m], right [n, m] bool."""
    _, found = jax.lax.top_k(near, min(k, near.shape[1]))  # [n, k]
    return where_number(jnp.take_along_axis(right, found, 1).any(1).mean(), near)


def bleu(spoken: Sequence[str], right: Sequence[str]) -> float:
    """BLEU of sentences of words between spaces against one reference each, 0 to 100, by sacrebleu."""
    try:
        import sacrebleu
    except ModuleNotFoundError:
        raise GenlossError("BLEU of captions needs sacrebleu; pip install 'genloss[captions]'.") from None
    return sacrebleu.corpus_bleu(list(spoken), [list(right)], tokenize="none", force=True).score


def cider(spoken: Sequence[str], right: Sequence[Sequence[str]], sigma: float = 6.0) -> float:
    """CIDEr-D of sentences against their references, [0, 10] (Vedantam et al. 2015, arXiv:1411.5726).

    For n = 1..4 an n-gram's count weighs log(N / number of the N references sets that have it); of each reference the
    cosine of both vectors, counts beyond the reference's cut, times exp(-(difference of lengths)²/2σ²); 10 times the
    mean over n and references.
    """
    sets = [[_grams(text) for text in texts] for texts in right]
    seen: Counter[tuple[str, ...]] = Counter()
    for references in sets:
        seen.update(set().union(*references))

    def weighed(grams: Counter[tuple[str, ...]], n: int) -> dict[tuple[str, ...], float]:
        return {g: c * math.log(len(sets) / max(1, seen[g])) for g, c in grams.items() if len(g) == n}

    def alike(a: Counter[tuple[str, ...]], b: Counter[tuple[str, ...]], n: int) -> float:
        x, y = weighed(a, n), weighed(b, n)
        size = math.sqrt(sum(v * v for v in x.values()) * sum(v * v for v in y.values()))
        return sum(min(x[g], y[g]) * y[g] for g in x.keys() & y.keys()) / size if size else 0.0

    total = 0.0
    for text, references in zip(spoken, sets, strict=True):
        own = _grams(text)
        for reference in references:
            apart = sum(v for g, v in own.items() if len(g) == 2) - sum(v for g, v in reference.items() if len(g) == 2)
            near = math.exp(-(apart**2) / (2 * sigma**2))  # lengths in pairs of words, as the published code has them
            total += near * sum(alike(own, reference, n) for n in range(1, 5)) / 4 / len(references)
    return 10 * total / len(sets)


def _grams(text: str) -> Counter[tuple[str, ...]]:
    words = text.split()
    return Counter(tuple(words[i : i + n]) for n in range(1, 5) for i in range(len(words) - n + 1))


def _judged(spoken: np.ndarray, right: np.ndarray) -> np.ndarray:
    """BLEU, CIDEr-D and the share that is exactly right of numbers [n, length], float32 [3]."""
    a, b = said(np.asarray(spoken)), said(np.asarray(right))
    exact = np.mean([x == y for x, y in zip(a, b, strict=True)])
    return np.array([bleu(a, b), cider(a, [[text] for text in b]), exact], np.float32)


def _trained(plan: Any, key: Key, loss: Callable[[Params, Rows], Array], params: Params, view: View) -> Params:
    """The parameters after `steps` steps of Adam on a loss of the diet's rows drawn in proportion to weight."""
    rows = _pairs(view.diet.rows)
    optimizer = optax.adam(optax.schedules.cosine_decay_schedule(plan.learning_rate, plan.steps))

    def step(carry: tuple[Params, Any], chosen: Array) -> tuple[tuple[Params, Any], None]:
        params, state = carry
        update, state = optimizer.update(jax.grad(loss)(params, take(rows, chosen)), state, params)
        return (optax.apply_updates(params, update), state), None

    index = draw(key, view.diet.weight, (plan.steps, plan.batch))  # [steps, batch]
    return jax.lax.scan(step, (params, optimizer.init(params)), index)[0][0]


def _pairs(rows: Rows) -> Rows:
    if not (isinstance(rows, dict) and {"image", "caption"} <= rows.keys()):
        raise GenlossError(
            "This probe needs pairs of an image and a caption; give the chain such a source, Captioned or Scenes."
        )
    return rows


def _same(captions: Array) -> Array:
    """Which captions [n, length] are equal, [n, n] bool."""
    return (captions[:, None] == captions).all(-1)


def _unit(x: Array) -> Array:
    return x / jnp.maximum(jnp.linalg.norm(x, axis=-1, keepdims=True), 1e-6)
