"""Who is shown what: how many items a recommender still shows, how evenly, and whether all users are shown the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp

from simulator.checks.fields import Count, check
from simulator.pool import count
from simulator.types import Array, GenlossError, Key, View


@dataclass(frozen=True, kw_only=True)
class Exposure:
    """Of rows {"user", "item", "click"}, what a generation showed.

    gini: Σ_i (2i - m - 1) x_(i) / (m Σ x), x_(1) <= ... the rows of each of m items.  overlap: the share of pairs of
    rows of two different users that show the same item; Chaney et al. 2018 (arXiv:1710.11214) compare users' sets.

    coverage | share of items that were shown | [0, 1] | higher is more diverse | O(n + users·items)
    gini | Gini coefficient of rows of items | [0, 1 - 1/items] | lower is more diverse | O(n + users·items)
    overlap | chance that two users are shown the same item | [0, 1] | lower is more diverse | O(n + users·items)
    clicks | share of rows that were clicked | [0, 1] | higher is better | O(n)
    rows | rows used | rows | neither | O(1)
    """

    users: Count
    items: Count

    __post_init__ = check

    def __call__(self, key: Key, view: View) -> dict[str, Any]:
        rows = view.synthetic
        if not (isinstance(rows, dict) and {"user", "item", "click"} <= rows.keys()):
            raise GenlossError("Exposure needs rows with a user, an item and a click; leave it out.")
        shown = jnp.zeros((self.users, self.items)).at[rows["user"], rows["item"]].add(1.0)  # [users, items]
        of_item, of_user = shown.sum(0), shown.sum(1)  # [items], [users]
        same = (of_item**2).sum() - (shown**2).sum()
        pairs = of_user.sum() ** 2 - (of_user**2).sum()
        return {
            "coverage": (of_item > 0).mean(),
            "gini": gini(of_item),
            "overlap": same / jnp.maximum(pairs, 1),
            "clicks": rows["click"].mean(),
            "rows": count(rows),
        }


def gini(x: Array) -> Array:
    """Of amounts x [m] >= 0: the mean difference of two of them, drawn with replacement, over twice their mean, []."""
    m = len(x)
    rank = 2 * jnp.arange(1, m + 1) - m - 1  # [m]
    return rank @ jnp.sort(x) / (m * x.sum())
