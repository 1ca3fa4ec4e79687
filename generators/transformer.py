"""A language model: a decoder trained on windows of tokens, which goes on with the text that it is given."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.core import Tracer

from generators.decoding import drawn, is_number, penalised, searched, shares
from generators.nets.decoder import Decoder
from generators.train import Trained
from simulator.checks.fields import BelowOne, Count, NonNegative, Positive, Range, Whole
from simulator.numerics.chance import fold_in, normal
from simulator.numerics.processes import whole
from simulator.numerics.schedule import Number, settled_number
from simulator.numerics.streams import streams
from simulator.pool import Rows
from simulator.probes.text import up_to
from simulator.types import Array, GenlossError, Key, Params

Network = Callable[..., Any]
"""`network(vocabulary, length, dtype=..., rngs=...)` builds a flax.nnx module of tokens 0..vocabulary-1 and rows of
`length` tokens at most, with the methods of `generators.nets.decoder.DecoderModule`.

All that it holds must be `nnx.Param` in float32; biases are called bias and what norms scale by scale.
"""


@dataclass(frozen=True, kw_only=True)
class Transformer(Trained):
    """Rows are windows of tokens, int32 [n, length], each below `vocabulary`.

    Maximises Σ_t log p(x_t | bos, x_1..x_{t-1}) by AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101); before every
    row stands `bos`, so that the first token has a probability too and rows can be said without a prompt.  With `eos`
    a row's text ends at the first of these tokens, and what follows it is padding, of the same token: it is certain,
    and has no part in the loss.

    With `adapters` every matrix W of the layers is W + A·B, A [in, rank] and B [rank, out], of which A and B alone are
    trained (Hu et al. 2021, arXiv:2106.09685), from B = 0: the network as it began, of which a chain with
    `start="base"` begins again in every generation.

    A row is drawn token by token, by a key of its own, with a cache of keys and values; `temperature`, `top_k`, `top_p`
    and `min_p` are those of `generators.decoding.shares`, numbers or, in a chain, schedules over its generations.
    `beams` search for the likeliest row instead, in which nothing is random: without a prompt all rows are the same.
    """

    vocabulary: Count  # number of tokens
    network: Network = Decoder()
    length: Count | None = None  # tokens of a window; None takes the source's
    bos: Whole | None = None  # the token before every row; None is one of its own, `vocabulary`, which is never said
    eos: Whole | None = None  # the token that ends a text and fills its row; None: there is none
    continuation: Count | None = None  # tokens of a row, its last, that the loss is of; None is all
    batch: Count = 32  # rows per step
    learning_rate: Positive = 1e-3  # peak of the cosine schedule
    average: BelowOne = 0.0  # decay of the moving average of weights that is sampled from; 0 takes the last weights
    decay: NonNegative = 0.1  # of matrices and tables, times the rate
    betas: tuple[BelowOne, BelowOne] = (0.9, 0.99)  # decays of the moments of gradients
    adapters: Count | None = None  # rank of the adapters; None trains all weights
    dtype: Literal["float32", "bfloat16"] = "float32"  # what networks compute in; weights are float32
    sample_batch: Count = 128  # rows sampled side by side
    temperature: Annotated[Number, Range(0)] = 1.0  # of sampling; 0 says the likeliest token
    top_k: Count | None = None  # tokens that are likeliest, of which one is said; None: all
    top_p: Annotated[Number, Range(0, 1)] = 1.0  # mass of the likeliest tokens, of which one is said
    min_p: Annotated[Number, Range(0, 1)] = 0.0  # least probability of what is said, in shares of the largest
    # What the logits of tokens of the row are divided by: above 1 says them less.
    repetition: Annotated[Number, Range(0, above=True)] = 1.0
    beams: Count = 1  # width of beam search; 1 draws

    completes: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("bos", "eos"):
            if (token := getattr(self, name)) is not None and token >= self.vocabulary:
                raise GenlossError(f"`{name}` is {token} and must be one of the {self.vocabulary} tokens.")
        plain = {"temperature": 1, "top_k": None, "top_p": 1, "min_p": 0, "repetition": 1}
        drawing = [n for n, v in plain.items() if (f := getattr(self, n)) is not v and not is_number(f, v or 0)]
        if self.beams > 1 and drawing:
            raise GenlossError(f"`beams` search for the likeliest row and draw nothing; leave out `{drawing[0]}`.")
        if self.length is not None and (self.continuation or 0) > self.length:
            raise GenlossError(
                f"`continuation` is {self.continuation}, and windows have {self.length} tokens; lower it."
            )

    def shaped(self, rows: Rows) -> Transformer:
        """The same model for windows as long as these."""
        if isinstance(rows, dict) or rows.ndim != 2 or not jnp.issubdtype(rows.dtype, jnp.integer):
            raise GenlossError("A Transformer needs windows of tokens, int32 [n, length]; give it a source of texts.")
        if not isinstance(rows, Tracer) and (top := int(whole(rows).max())) >= self.vocabulary:
            raise GenlossError(
                f"A Transformer of {self.vocabulary} tokens was shown token {top}; raise `vocabulary` (that of a Text "
                "is len(text.alphabet))."
            )
        if self.length is not None and self.length != rows.shape[1]:
            raise GenlossError(
                f"A Transformer of windows of {self.length} tokens was shown {rows.shape[1]}; leave `length` open."
            )
        return dataclasses.replace(self, length=rows.shape[1])

    def init(self, key: Key) -> Params:
        """{"net": parameters of the network} and, with adapters, "adapters": {path: {"a", "b"}}."""
        params = {"net": nnx.as_pure(nnx.split(self._net(fold_in(key, 0)), nnx.Param)[1])}
        if self.adapters is None:
            return params
        found = {}
        for i, (path, kernel) in enumerate(_kernels(params["net"])):
            *layers, inputs, outputs = kernel.shape
            a = normal(fold_in(fold_in(key, 1), i), (*layers, inputs, self.adapters)) / inputs**0.5
            found[path] = {"a": a, "b": jnp.zeros((*layers, self.adapters, outputs))}
        return {**params, "adapters": found}

    @property
    def still(self) -> tuple[str, ...]:
        """The network, where adapters move it."""
        return () if self.adapters is None else ("net",)

    def rule(self, rate: optax.Schedule) -> optax.GradientTransformation:
        """AdamW, which decays neither biases nor what norms scale by."""
        leaf = lambda path, _: not str(getattr(path[-1], "key", path[-1])).startswith(("bias", "scale"))  # noqa: E731
        mask = lambda params: jax.tree_util.tree_map_with_path(leaf, params)  # noqa: E731
        return optax.adamw(rate, *self.betas, weight_decay=self.decay, mask=mask)

    # What it thinks of rows.

    def losses(self, key: Key, params: Params, rows: Array) -> Array:
        """-log p of each token in its row, or of the last ones, [n, length or continuation], in nats; padding has 0."""
        return -self._told(params, rows, self.continuation)

    def counted(self, rows: Array) -> Array | None:
        found = self._text(rows)
        return found if found is None or self.continuation is None else found[:, -self.continuation :]

    def token_log_prob(self, params: Params, rows: Array) -> Array:
        """log p of each token in its row, [n, length], in nats; padding has 0.  `sample_batch` rows at a time."""
        if len(rows) <= self.sample_batch:
            return self._told(params, rows)
        return jax.lax.map(lambda row: self._told(params, row[None])[0], rows, batch_size=self.sample_batch)

    def log_prob(self, params: Params, rows: Array) -> Array:
        """[n], in nats per row: of what temperature 1 says, nothing cut off."""
        return self.token_log_prob(params, rows).sum(1)

    def hidden(self, params: Params, rows: Array) -> Array:
        """The states that each token of a row is foretold from, having read those before it, [n, length, width]."""
        return self._read(self.merged(params), rows)

    def next_log_prob(self, params: Params, rows: Array) -> Array:
        """[n, length, vocabulary], in nats, of every token at each place given those before it in the row."""
        net = self.merged(params)
        return jax.nn.log_softmax(self._logits(net, self._read(net, rows)))

    def _read(self, net: Any, rows: Array) -> Array:
        return net.hidden(self._begun(rows)[:, :-1])

    def _told(self, params: Params, rows: Array, last: int | None = None) -> Array:
        """log p of the `last` tokens of rows, [n, last]."""
        net = self.merged(params)
        cut = 0 if last is None else rows.shape[1] - last
        logits = self._logits(net, self._read(net, rows)[:, cut:])  # [n, last, vocabulary]
        own = rows[:, cut:, None] == jnp.arange(self.vocabulary)  # as a sum: a gather has a scatter for its gradient
        found = jnp.where(own, logits, 0.0).sum(-1) - jax.nn.logsumexp(logits, -1)  # [n, last]
        text = self._text(rows)
        return found if text is None else jnp.where(text[:, cut:], found, 0.0)

    def _text(self, rows: Array) -> Array | None:
        """Which tokens are text, its end included, [n, length] bool; None where all are."""
        return None if self.eos is None else up_to(self.eos, rows)

    # What it says.

    def sample(self, key: Key, params: Params, n: int, given: Array | None = None) -> Array:
        """[n, length] int32, `sample_batch` rows at a time; with `given`, the first tokens of each, [n, 1..length],
        the rest follows these.  A row depends on its number and its first tokens, not on the rows beside it."""
        parts = jax.lax.map(lambda i: self.portion(key, params, n, i, given), jnp.arange(self.portions(n)))
        return parts.reshape(-1, parts.shape[-1])[:n]

    def portions(self, n: int) -> int:
        """Batches that a sample of n rows is made in."""
        return -(-n // min(self.sample_batch, n))

    def portion(self, key: Key, params: Params, n: int, i: Array, given: Array | None = None) -> Array:
        """Batch i of `sample(key, params, n, given)`; of the last, rows beyond n are to be thrown away."""
        batch = min(self.sample_batch, n)
        index = i * batch + jnp.arange(batch)  # [batch]
        keys = jax.vmap(lambda i: fold_in(key, i))(index)  # [batch]
        if given is None:
            first = jnp.zeros((batch, 0), jnp.int32)
        elif given.ndim == 2 and len(given) == n and 1 <= given.shape[1] <= self._length:
            first = given[jnp.minimum(index, n - 1)].astype(jnp.int32)  # [batch, k]
        else:
            raise GenlossError(
                f"A Transformer can be given the first tokens of {n} windows, [{n}, 1..{self._length}]; it was given "
                f"{list(given.shape)}."
            )
        return first if first.shape[1] == self._length else self._continued(keys, self.merged(params), first)

    def _continued(self, keys: Key, net: Any, given: Array) -> Array:
        """Rows [n, length] that go on from `given` [n, k], k < length."""
        n, k = given.shape
        before = self._begun(given)  # [n, k + 1]

        def extend(tokens: Array, cache: Any, at: Array | int) -> tuple[Array, Any]:
            hidden, cache = net.extended(tokens, cache, at)
            return self._logits(net, hidden[:, -1:])[:, 0], cache  # [n, vocabulary]

        cuts = (self.temperature, self.top_p, self.min_p, self.repetition)
        temperature, top_p, min_p, repetition = map(settled_number, cuts)
        logits, cache = extend(before, net.empty(n, self._length), 0)
        if self.beams > 1:
            return searched(extend, logits, cache, given, self._length, self.beams, self.eos)
        one_hot = lambda token: token[:, None] == jnp.arange(self.vocabulary)  # noqa: E731
        seen = (given[..., None] == jnp.arange(self.vocabulary)).any(1)  # [n, vocabulary]
        over = jnp.zeros(n, bool) if self.eos is None else (given == self.eos).any(1)  # [n]

        def choose(logits: Array, seen: Array, over: Array, place: Array) -> tuple[Array, Array, Array]:
            logits = logits if is_number(repetition, 1) else penalised(logits, seen, repetition)
            share = shares(logits, temperature, self.top_k, top_p, min_p)
            token = drawn(jax.vmap(lambda key: fold_in(key, place))(keys), share)  # [n]
            if self.eos is not None:
                token = jnp.where(over, self.eos, token)
                over = token == self.eos
            return token, seen if is_number(repetition, 1) else seen | one_hot(token), over

        def say(carry: Any, place: Array) -> tuple[Any, Array]:
            token, seen, over, cache = carry
            logits, cache = extend(token[:, None], cache, place)
            token, seen, over = choose(logits, seen, over, place)
            return (token, seen, over, cache), token

        first, seen, over = choose(logits, seen, over, jnp.int32(k))
        rest = jax.lax.scan(say, (first, seen, over, cache), jnp.arange(k + 1, self._length))[1]  # [length - k - 1, n]
        return jnp.concatenate([given, first[:, None], rest.T], 1)

    # The network.

    def merged(self, params: Params) -> Any:
        """The network with these parameters, its adapters added in."""
        graph = nnx.split(nnx.eval_shape(self._net, jax.random.key(0)), nnx.Param)[0]
        if self.adapters is None:
            return nnx.merge(graph, params["net"])
        net, more = params["net"], params["adapters"]

        def moved(path: Any, leaf: Array) -> Array:
            own = more.get(_name(path))
            return leaf if own is None else leaf + own["a"] @ own["b"]

        return nnx.merge(graph, jax.tree_util.tree_map_with_path(moved, net))

    def _net(self, key: Key) -> Any:
        size = self.vocabulary + (self.bos is None)
        return self.network(size, self._length, dtype=jnp.dtype(self.dtype), rngs=streams(key))

    def _begun(self, tokens: Array) -> Array:
        """tokens [n, k] after the token that every row begins with, [n, k + 1]."""
        bos = self.vocabulary if self.bos is None else self.bos
        return jnp.pad(tokens, ((0, 0), (1, 0)), constant_values=bos)

    def _logits(self, net: Any, hidden: Array) -> Array:
        """[n, t, vocabulary]: none for the token that only begins rows."""
        return net.logits(hidden)[..., : self.vocabulary]

    @property
    def _length(self) -> int:
        if self.length is None:
            raise GenlossError("This Transformer has no length; give `length`, or let a chain take it from its source.")
        return self.length


def _name(path: Any) -> str:
    return ".".join(str(getattr(part, "key", part)) for part in path)


def _kernels(net: Params) -> list[tuple[str, Array]]:
    """The matrices of the layers, by their paths."""
    found = [(_name(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(net)]
    return [(name, leaf) for name, leaf in found if name.startswith("layers.") and name.endswith(".kernel")]
