"""Tails of a series' returns, and how they cluster, against those of its truth."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp

from simulator.abilities import Risky
from simulator.checks.fields import Count, InsideShare, check
from simulator.pool import Rows
from simulator.probes.finite import where_finite
from simulator.probes.points import ascending
from simulator.sources.truth import Truth
from simulator.types import Array, GenlossError, Key, Source, View


@dataclass(frozen=True)
class Tails:
    """Value at risk and expected shortfall of returns over some days, at one level, in units of the rows.

    Rows are windows [n, length] of one-day returns that add up (log-returns); a window is cut into spans of `days`.
    VaR is -q and ES -E[X | X <= q], q the (1 - level)-quantile (of a sample: Acerbi & Tasche 2002, J. Banking & Finance
    26, 1487-1503, eq. 4.2).  The yardstick is the law of the source where it is the `Truth` of prices that know theirs
    (`generators.prices`), and otherwise the held-out rows.

    var | value at risk of samples | units of the rows | neither | O(n log n)
    es | expected shortfall of samples | units of the rows | neither | O(n log n)
    var_ratio | value at risk over that of the yardstick | 1 for the truth | neither | O(n log n)
    es_ratio | expected shortfall over that of the yardstick | 1 for the truth | neither | O(n log n)
    rows | windows used | rows | neither | O(1)
    """

    level: InsideShare = 0.99
    days: Count = 1
    draws: Count | None = None  # windows drawn for it, which tell more; None: those that the generation wrote

    __post_init__ = check

    def prepare(self, key: Key, source: Source) -> dict[str, Array]:
        """The risk of the truth, where it is known."""
        truth = _known(source)
        if truth is None:
            return {}
        return {name: jnp.float32(x) for name, x in zip(("var", "es"), truth.risk(self.level, self.days), strict=True)}

    def __call__(self, key: Key, view: View) -> dict[str, Any]:
        known = view.prepared.get(self) or self._risk(view.reference)
        rows = _said(key, view, self.draws)
        found = self._risk(rows)
        found |= {f"{name}_ratio": found[name] / known[name] for name in ("var", "es")}
        return {**where_finite(found, rows), "rows": len(rows)}

    def _risk(self, rows: Rows) -> dict[str, Array]:
        x = _windows(rows)  # [n, length]
        spans = x.shape[1] // self.days
        if not spans:
            raise GenlossError(f"Windows of {x.shape[1]} values have no span of {self.days}; lower `days` of Tails.")
        gains = ascending(x[:, : spans * self.days].reshape(len(x), spans, self.days).sum(2).ravel())  # [n spans]
        share = len(gains) * (1 - self.level)  # of the values, not always whole
        worst = max(math.ceil(share - 1e-9), 1)
        q = gains[worst - 1]  # []: the least x with F(x) >= 1 - level
        return {"var": -q, "es": (worst - share) * q / share - gains[:worst].sum() / share}


@dataclass(frozen=True)
class Stylised:
    """Facts that returns of all markets share (Cont 2001, doi:10.1080/713665670): heavy tails, and calm and wild times.

    volatility: standard deviation σ; kurtosis: E(x - μ)⁴/σ⁴ - 3; clustering: the correlation of squares x² that are
    `lag` days apart, over all windows.  The yardstick is that of `Tails`.

    volatility | standard deviation of samples | units of the rows | higher is more diverse | O(n)
    kurtosis | excess kurtosis of samples | >= -2, 0 for a normal law | higher has heavier tails | O(n)
    clustering | correlation of squares `lag` days apart | [-1, 1] | neither | O(n)
    volatility_ratio | volatility over that of the yardstick | 1 for the truth | neither | O(n)
    kurtosis_excess | kurtosis less that of the yardstick | 0 for the truth | neither | O(n)
    clustering_excess | clustering less that of the yardstick | 0 for the truth | neither | O(n)
    rows | windows used | rows | neither | O(1)
    """

    lag: Count = 1  # days
    draws: Count | None = None  # windows drawn for it, which tell more; None: those that the generation wrote

    __post_init__ = check

    def prepare(self, key: Key, source: Source) -> dict[str, Array]:
        """What the truth has, where it is known."""
        truth = _known(source)
        if truth is None:
            return {}
        volatility, kurtosis = truth.moments()
        known = {"volatility": volatility, "kurtosis": kurtosis, "clustering": truth.squares(self.lag)}
        return {name: jnp.float32(x) for name, x in known.items()}

    def __call__(self, key: Key, view: View) -> dict[str, Any]:
        known = view.prepared.get(self) or self._facts(view.reference)
        rows = _said(key, view, self.draws)
        found = self._facts(rows)
        found["volatility_ratio"] = found["volatility"] / known["volatility"]
        found |= {f"{name}_excess": found[name] - known[name] for name in ("kurtosis", "clustering")}
        return {**where_finite(found, rows), "rows": len(rows)}

    def _facts(self, rows: Rows) -> dict[str, Array]:
        x = _windows(rows)  # [n, length]
        if x.shape[1] <= self.lag:
            raise GenlossError(f"Windows of {x.shape[1]} values have none {self.lag} apart; lower `lag` of Stylised.")
        z = x - x.mean()
        tiny = jnp.finfo(jnp.float32).tiny
        deviation = jnp.sqrt((z**2).mean())  # []
        z = z / jnp.maximum(deviation, tiny)
        square = x**2 / jnp.maximum((x**2).mean(), tiny) - 1  # [n, length]
        paired = (square[:, : -self.lag] * square[:, self.lag :]).mean()
        return {
            "volatility": deviation,
            "kurtosis": (z**4).mean() - 3,
            "clustering": paired / jnp.maximum((square**2).mean(), tiny),
        }


def _known(source: Source) -> Risky | None:
    """The law of the source's returns, where it knows it."""
    return source.generator if isinstance(source, Truth) and isinstance(source.generator, Risky) else None


def _said(key: Key, view: View, draws: int | None) -> Rows:
    """What a generation wrote, or so many rows more that it might have written."""
    return view.synthetic if draws is None else view.generator.sample(key, view.params, draws)


def _windows(rows: Rows) -> Array:
    """Windows of a series, [n, length]."""
    if isinstance(rows, dict) or rows.ndim != 2:
        raise GenlossError("Tails of a series are those of windows, rows [n, length]; leave the probe out.")
    return rows
