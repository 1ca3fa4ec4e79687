"""A language model that edits texts instead of writing them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import jax
import jax.numpy as jnp

from generators.decoding import drawn
from simulator.abilities import Foretelling, shaped
from simulator.checks.fields import Range, check
from simulator.numerics.chance import split
from simulator.numerics.schedule import Number, settled_number
from simulator.pool import Pool, Rows
from simulator.probes.classifier import in_blocks
from simulator.probes.text import counted
from simulator.types import Array, Generator, GenlossError, Key, Params

_FEW = 16  # rows, of whose every place all tokens are weighed


@dataclass(frozen=True)
class Edited:
    """The inner language model as an editor: of whole texts it is given, the tokens that it foresees are drawn anew.

    x'_i ~ p(. | x_<i) where p(x_i | x_<i) >= `threshold`, and x'_i = x_i elsewhere (token editing, ToEdit: Zhu et al.
    2024, arXiv:2412.14689), all places at once, from the text as it was.  What is rare, and hard to foresee,
    stays real, so that what is written is neither all synthetic nor, where the model is sure, the text again.  In the
    paper another model edits; here it is each generation.

    Texts are given by `Chain(given=Prompts(length, of="real"))`, or those of the diet; without them it writes as the
    inner model does.  What pads a text after its end is left as it is.
    """

    generator: Generator  # foretells all tokens: an Ngram, a Transformer
    threshold: Annotated[Number, Range(0, 1)] = 0.99  # probability from which on a token is drawn anew

    completes: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check(self)
        if not isinstance(self.generator, Foretelling):
            raise GenlossError(
                f"{type(self.generator).__name__} has no `next_log_prob`, which says what else a token could be; give "
                "Edited a language model."
            )

    def shaped(self, rows: Rows) -> Edited:
        """The same for rows like these."""
        return dataclasses.replace(self, generator=shaped(self.generator, rows))

    def init(self, key: Key) -> Params:
        """The inner model's own start."""
        return self.generator.init(key)

    def fit(self, key: Key, params: Params, pool: Pool) -> tuple[Params, dict[str, Array]]:
        return self.generator.fit(key, params, pool)

    def sample(self, key: Key, params: Params, n: int, given: Array | None = None) -> Array:
        """Texts that are given, [n, length] int32, edited; without any, what the inner model says."""
        if given is None:
            return self.generator.sample(key, params, n)
        model: Any = self.generator
        keys = jax.random.split(key, n)

        def of(block: tuple[Key, Array]) -> Array:
            keys, rows = block
            told = model.next_log_prob(params, rows)  # [b, length, V]
            own = jnp.take_along_axis(told, rows[..., None], 2)[..., 0]  # [b, length]
            each = jax.vmap(lambda key: split(key, rows.shape[1]))(keys)  # [b, length]
            again = jax.vmap(drawn)(each, jax.nn.softmax(told))  # [b, length]
            foreseen = (own >= jnp.log(settled_number(self.threshold))) & counted(model, rows)
            return jnp.where(foreseen, again, rows).astype(rows.dtype)

        return in_blocks(of, (keys, given), _FEW)

    def log_prob(self, params: Params, rows: Rows) -> Array:
        """The inner model's own, as are all that follow."""
        return self._inner.log_prob(params, rows)

    def token_log_prob(self, params: Params, rows: Rows) -> Array:
        return self._inner.token_log_prob(params, rows)

    def next_log_prob(self, params: Params, rows: Rows) -> Array:
        return self._inner.next_log_prob(params, rows)

    @property
    def vocabulary(self) -> int | None:
        return self._inner.vocabulary

    @property
    def eos(self) -> int | None:
        return getattr(self._inner, "eos", None)

    @property
    def _inner(self) -> Any:
        return self.generator
