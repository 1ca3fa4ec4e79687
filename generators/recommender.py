"""A recommender that learns from what it showed, and the users it shows to: exposure is the diet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from simulator.checks.fields import Count, NonNegative, Positive, Share, Whole, check
from simulator.numerics.chance import bernoulli, fold_in, normal
from simulator.numerics.linalg import solve
from simulator.numerics.selection import draw
from simulator.pool import Pool
from simulator.types import Array, Key

Log = dict[str, Array]  # {"user", "item": int32 [n], "click": int32 [n] of 0 and 1}: who was shown what, and clicked


@dataclass(frozen=True, kw_only=True)
class Tastes:
    """Users who do not change, shown items at random: `Truth(Tastes())`.

    User u clicks on item i with probability s(level + spread·(√c·q_i + √(1 - c)·p_u·q'_i/√rank)), s the logistic
    function, c = `common` and all else standard normal: q_i is what all agree on.  Nothing is fitted.
    """

    users: Count = 50
    items: Count = 40
    rank: Count = 4  # of what users do not agree on
    level: float = -1.5  # log-odds of a click in the middle
    spread: NonNegative = 1.5  # standard deviation of log-odds
    common: Share = 0.3  # c, the share of their variance that is common to all users
    seed: Whole = 0  # of these users and items

    __post_init__ = check

    @property
    def clicks(self) -> Array:
        """The probability of a click, [users, items]."""
        key = jax.random.key(self.seed)
        popular = normal(fold_in(key, 0), (self.items,))
        own = normal(fold_in(key, 1), (self.users, self.rank)) @ normal(fold_in(key, 2), (self.rank, self.items))
        odds = (1 - self.common) ** 0.5 * own / self.rank**0.5 + self.common**0.5 * popular  # [users, items]
        return jax.nn.sigmoid(self.level + self.spread * odds)

    def asked(self, key: Key, shown: Array, n: int) -> Log:
        """n rows: a user comes at random, is shown item i with probability shown[u, i], [users, items], and clicks."""
        pair = draw(fold_in(key, 0), shown.ravel(), (n,))  # [n]
        click = bernoulli(fold_in(key, 1), self.clicks.ravel()[pair], (n,))
        return {"user": pair // self.items, "item": pair % self.items, "click": click}

    def init(self, key: Key) -> Log:
        """Nothing."""
        return {}

    def fit(self, key: Key, params: Log, pool: Pool) -> tuple[Log, dict[str, Array]]:
        return params, {}

    def sample(self, key: Key, params: Log, n: int) -> Log:
        return self.asked(key, jnp.ones((self.users, self.items)), n)


class RecommenderParams(NamedTuple):
    users: Array  # P [users, rank]
    items: Array  # Q [items, rank]


@dataclass(frozen=True, kw_only=True)
class Recommender:
    """Rows are {"user", "item", "click"}.  Factorises clicks, and shows each user what it believes that they like.

    Minimises Σ w (y - b - p_u·q_i)² + ridge·(‖P‖² + ‖Q‖²) by alternating least squares (Koren, Bell & Volinsky 2009,
    doi:10.1109/MC.2009.263): all users given the items, then all items given the users.  b is the score of what nobody
    was shown.  A user is shown item i with probability (1 - explore)·softmax(scores/temperature) + explore/items, and
    clicks as `world` says, whatever the model believes: so the next model learns from what this one chose to show
    (Chaney, Stewart & Engelhardt 2018, arXiv:1710.11214).
    """

    world: Tastes = Tastes()  # the source's
    rank: Count = 4
    ridge: Positive | Array = 1.0
    alternations: Count = 10
    unseen: Share | Array = 0.0  # b; 0: what is not shown is not liked
    temperature: Positive | Array = 0.1  # of scores, which are probabilities of clicks
    explore: Share | Array = 0.0  # share of rows that are shown at random

    __post_init__ = check

    def init(self, key: Key) -> RecommenderParams:
        """Small normal factors."""
        shape = (self.world.users + self.world.items, self.rank)
        factors = 0.3 * normal(key, shape) / self.rank**0.5
        return RecommenderParams(factors[: self.world.users], factors[self.world.users :])

    def fit(self, key: Key, params: RecommenderParams, pool: Pool) -> tuple[RecommenderParams, dict[str, Array]]:
        rows, at = pool.rows, (pool.rows["user"], pool.rows["item"])
        empty = jnp.zeros((self.world.users, self.world.items))
        weight = empty.at[at].add(pool.weight)  # [users, items]
        clicks = empty.at[at].add(pool.weight * (rows["click"] - self.unseen))  # [users, items]

        def alternate(_: Array, now: RecommenderParams) -> RecommenderParams:
            users = self._given(now.items, weight, clicks)
            return RecommenderParams(users, self._given(users, weight.T, clicks.T))

        return jax.lax.fori_loop(0, self.alternations, alternate, params), {}

    def _given(self, other: Array, weight: Array, clicks: Array) -> Array:
        """The factors of one side [a, rank] given those of the other [b, rank]; weight and clicks are [a, b]."""
        with jax.default_matmul_precision("highest"):
            square = (other[:, :, None] * other[:, None]).reshape(len(other), -1)  # [b, rank²]
            gram = (weight @ square).reshape(-1, self.rank, self.rank) + self.ridge * jnp.eye(self.rank)
            return jax.vmap(solve)(gram, clicks @ other)

    def scores(self, params: RecommenderParams) -> Array:
        """What each user is believed to click on, [users, items], probabilities where the fit is good."""
        return self.unseen + params.users @ params.items.T

    def shown(self, params: RecommenderParams) -> Array:
        """The probability that a user is shown an item, [users, items]; rows sum to 1."""
        chosen = jax.nn.softmax(self.scores(params) / self.temperature, axis=1)
        return (1 - self.explore) * chosen + self.explore / self.world.items

    def sample(self, key: Key, params: RecommenderParams, n: int) -> Log:
        return self.world.asked(key, self.shown(params), n)
