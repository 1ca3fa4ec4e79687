"""Training by gradient steps, as begin / advance / finish: the fit of every neural generator.

`advance` is one compiled call of a fixed number of optimizer steps.  `fit` composes the three under `lax.scan`, so it
vmaps over chains; `run` drives `advance` from the host, which gives progress and an early word on a loss gone wrong.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from generators.finish import Average, Finish
from generators.objective import Objective, Plain
from simulator.checks.fields import BelowOne, Count, Positive, check
from simulator.numerics.selection import draw
from simulator.pool import SYNTHETIC, Pool, Rows
from simulator.running.mesh import spread
from simulator.types import Array, GenlossError, Key, Params


class Training(struct.PyTreeNode):
    """A fit in flight."""

    params: Params
    average: Params  # exponential moving average of params
    optimizer: Any
    key: Key
    call: Array  # [] int32: calls of `advance` done
    loss: Array  # [] mean loss per row over the last call, in the units of the loss
    start: Params | None = None  # the weights it began at, where the finish looks back
    synthetic: Array | None = None  # [] share of the diet's mass that this chain wrote, where the finish looks back


@dataclass(frozen=True, kw_only=True)
class Trained(abc.ABC):
    """A generator fitted by Adam on minibatches drawn in proportion to weight, with warm-up and cosine decay.

    A final class gives `losses` and the protocol's `init` and `sample`.  What of the losses is made small, and what is
    made of the weights in the end, are arguments: `generators/objective.py`, `generators/finish.py`.
    """

    steps: Count = 600  # optimizer steps per generation
    batch: Count = 128  # rows per step
    learning_rate: Positive = 3e-3  # peak of the cosine schedule
    warmup: BelowOne = 0.05  # share of the steps in which the rate rises to its peak
    average: BelowOne = 0.99  # decay of the moving average of weights that is sampled from; 0 takes the last weights
    clip: Positive = 1.0  # largest norm of a gradient
    chunk: Count = 100  # optimizer steps per compiled call
    objective: Objective = Plain()  # what is made small: the model's own loss, or one that wraps it
    finish: Finish = Average()  # the weights that a fit ends with: their average, or one moved from where it began

    def __post_init__(self) -> None:
        check(self)
        if self.objective != Plain() and type(self).loss is not Trained.loss:
            raise GenlossError(
                f"{type(self).__name__} gives the mean loss of a batch, which an objective cannot weigh; give "
                "`losses`, one for each row, instead of `loss`."
            )
        if self.steps % min(self.chunk, self.steps):
            raise GenlossError(f"`steps` ({self.steps}) must be a multiple of `chunk` ({self.chunk}).")

    def losses(self, key: Key, params: Params, rows: Rows) -> Array:
        """The loss of each row of a batch, [n], or of each of its values, [n, ...]."""
        raise GenlossError(f"{type(self).__name__} has no `losses`; give it the loss of each row of a batch.")

    def loss(self, key: Key, params: Params, rows: Rows) -> Array:
        """What a step makes smaller, []: the objective's mean over a batch of rows, or over what of it counts."""
        losses, counted = self.objective(self, key, params, rows), self.counted(rows)
        return losses.mean() if counted is None else (losses * counted).sum() / jnp.maximum(counted.sum(), 1)

    @abc.abstractmethod
    def init(self, key: Key) -> Params: ...

    def closed_form(self, params: Params, pool: Pool) -> Params:
        """What is fitted in closed form, before the steps: nothing, unless a final class says otherwise."""
        return params

    def counted(self, rows: Rows) -> Array | None:
        """Which losses of a batch count, bool in the shape of `losses`; None: all."""
        return None

    def rule(self, rate: optax.Schedule) -> optax.GradientTransformation:
        """What is made of clipped gradients: Adam's steps."""
        return optax.adam(rate)

    def descent(self, turns: int = 1) -> optax.GradientTransformation:
        """`rule` of clipped gradients at a rate that warms up and falls along a cosine, `turns` of them a step."""
        warm = int(self.warmup * self.steps)
        rate = optax.schedules.warmup_cosine_decay_schedule(0.0, self.learning_rate, warm, self.steps)
        rule = self.rule(rate if turns == 1 else lambda count: rate(jnp.asarray(count) // turns))
        return optax.chain(optax.clip_by_global_norm(self.clip), rule)

    def optimizer(self) -> optax.GradientTransformation:
        """What is made of the gradients of what moves: one descent."""
        return self.descent()

    def stepped(self, key: Key, params: Params, moving: Params, state: Any, rows: Rows) -> tuple[Params, Any, Array]:
        """One step: (what of the parameters moves, the optimizer's state) after it, and the loss before, [].

        `moving` are the parts of `params` that steps move, as they are by now.  A model of several players lets each
        take its turns in one of its own.
        """
        loss, gradient = jax.value_and_grad(lambda p: self.loss(key, self._whole(params, p), rows))(moving)
        update, state = self.optimizer().update(gradient, state, moving)
        return optax.apply_updates(moving, update), state, loss

    @property
    def drawn(self) -> int:
        """Rows that a step draws: a batch."""
        return self.batch

    @property
    def still(self) -> tuple[str, ...]:
        """Parts of the parameters, by name, that no step moves, and for which nothing is kept."""
        return ()

    @property
    def calls(self) -> int:
        """Calls of `advance` that make a fit."""
        return self.steps // min(self.chunk, self.steps)

    @property
    def unrolled(self) -> bool:
        """Whether the steps of a chunk are laid out one after the other instead of as a loop, which compiles faster."""
        return False

    def begin(self, key: Key, params: Params, pool: Pool) -> Training:
        params = self.closed_form(params, pool)
        start = synthetic = None
        if self.finish.looks_back:
            start, synthetic = params, (pool.weight * (pool.origin == SYNTHETIC)).sum() / pool.weight.sum()
        state = self.optimizer().init(self._moving(params))
        return Training(params, params, state, key, jnp.int32(0), jnp.float32(0), start, synthetic)

    def advance(self, pool: Pool, training: Training) -> Training:
        """`chunk` optimizer steps."""
        chunk = min(self.chunk, self.steps)
        for_rows, for_loss = jax.random.split(jax.random.fold_in(training.key, training.call))
        index = draw(for_rows, pool.weight, (chunk, self.drawn))  # [chunk, drawn]

        def step(carry: tuple[Params, Params, Any], x: tuple[Array, Array]) -> tuple[Any, Array]:
            params, average, state = carry
            i, chosen = x
            rows = spread(pool.take(chosen))  # leaves [drawn, ...], in their storage type until here
            own = jax.random.fold_in(for_loss, i)
            params, state, loss = self.stepped(own, training.params, params, state, rows)
            # The average forgets its start faster at first, so that short fits are not held back by it.
            done = training.call * chunk + i
            rate = jnp.minimum(self.average, (1 + done) / (10 + done))
            average = jax.tree.map(lambda a, p: rate * a + (1 - rate) * p, average, params)
            return (params, average, state), loss

        carry = (self._moving(training.params), self._moving(training.average), training.optimizer)
        steps, unroll = (jnp.arange(chunk), index), 0 if self.unrolled else 1  # 0: no loop is left, of one step neither
        (params, average, state), losses = jax.lax.scan(step, carry, steps, unroll=unroll)
        params, average = (self._whole(training.params, moved) for moved in (params, average))
        call, loss = training.call + 1, losses.mean()
        return training.replace(params=params, average=average, optimizer=state, call=call, loss=loss)

    def fit(self, key: Key, params: Params, pool: Pool) -> tuple[Params, dict[str, Array]]:
        training = self.begin(key, params, pool)
        advance = lambda carry, _: (self.advance(pool, carry), None)  # noqa: E731
        return self.finish(jax.lax.scan(advance, training, None, length=self.calls)[0])

    def _moving(self, params: Params) -> Params:
        return {name: part for name, part in params.items() if name not in self.still} if self.still else params

    def _whole(self, params: Params, moved: Params) -> Params:
        return {**params, **moved} if self.still else moved
