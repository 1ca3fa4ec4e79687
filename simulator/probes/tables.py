"""What a generation keeps of a table: its columns one by one and in pairs, its rare categories, and its use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from simulator.checks.fields import Count, InsideShare, check
from simulator.pool import Rows, count
from simulator.probes.features import training
from simulator.probes.finite import where_finite
from simulator.sources.columns import Columns, Layout, refuse_other, values
from simulator.types import Array, GenlossError, Key, Source, View


@dataclass(frozen=True)
class Mixed:
    """A feature space of tables, all columns but the target, [n, features]: numbers in standard deviations of real rows
    about their mean, 0 where missing; categories, and whether a number is missing, one of K over √2.

    So rows that differ in one category, and those that differ by a standard deviation in one number, are 1 apart.
    """

    rows: Count = 10_000  # real training rows that scales are found from, at most

    __post_init__ = check

    def prepare(self, key: Key, source: Source) -> dict[str, Array]:
        """{"mean", "scale": [c]} of numbers that are there; scale 1 where all are alike."""
        x, there, _ = values(training(key, source, self.rows))  # [n, c]
        many = jnp.maximum(there.sum(0), 1)  # [c]
        mean = (x * there).sum(0) / many
        scale = jnp.sqrt((there * (x - mean) ** 2).sum(0) / many)
        return {"mean": mean, "scale": jnp.where(scale > 1e-6 * jnp.abs(mean), scale, 1.0)}

    def __call__(self, rows: Rows, learned: dict[str, Array]) -> Array:
        refuse_other(rows)
        x, there, missing = values(rows)  # [n, c]
        x = jnp.where(there, (x - learned["mean"]) / learned["scale"], 0.0)
        flags = [jnp.concatenate([missing, ~missing], 1)] if "missing" in rows else []  # [n, 2 c]
        of_k = [leaf.astype(jnp.float32) / np.sqrt(2) for leaf in (*rows.get("kinds", ()), *flags)]
        return jnp.concatenate([x, *of_k], 1)


@dataclass(frozen=True)
class Marginals:
    """How far the columns of samples are from those of held-out real rows, the target's too.

    Of numbers the Kolmogorov-Smirnov distance sup|F - G| of those that are there; of categories, labels and whether a
    number is missing the total variation Σ|p - q|/2.  Of n samples and m real rows of one law they are not 0, but
    about 0.87 √(1/n + 1/m) for numbers: compare them with their ceiling.

    numbers | mean distance of the columns of numbers | [0, 1] | lower is better | O(c n log n)
    states | mean distance of the columns of categories | [0, 1] | lower is better | O(n Σ K)
    worst | largest distance of a column | [0, 1] | lower is better | O(1)
    rows | samples used | rows | neither | O(1)
    reference_rows | held-out rows used | rows | neither | O(1)
    """

    def __call__(self, key: Key, view: View) -> dict[str, Any]:
        layout, real, said = both(view)
        found: dict[str, Array] = {}
        if len(layout.whole):
            found["numbers"] = jax.vmap(steepest, 1)(real.x, real.there, said.x, said.there)  # [c]
        if layout.sizes:
            shares = [layout.one_of_k(part.state).mean(0) for part in (real, said)]  # [s, K] each
            found["states"] = jnp.abs(shares[0] - shares[1]).sum(-1) / 2  # [s]
        worst = jnp.concatenate(list(found.values())).max()
        means = {name: each.mean() for name, each in found.items()}
        return where_finite({**means, "worst": worst}, view.synthetic) | counts(view)


@dataclass(frozen=True)
class Associations:
    """How far the pairs of columns of samples are from those of held-out real rows in how they hang together: the mean
    over pairs of |theirs - real|, the target's too.

    Of two numbers Pearson's correlation r; of two columns of categories Cramér's V = √(χ²/n / (min(kinds) - 1)), kinds
    that are there (Cramér 1946, without correction); of a number by a category the correlation ratio
    η = √(Σ_k n_k (m_k - m)² / Σ_i (x_i - m)²) (Fisher 1925).  Each over rows where the numbers are there, and 0 for a
    column that is constant.  Two halves of real rows differ, too: compare with the ceiling.

    correlation | mean |difference of r| | [0, 2] | lower is better | O(n c²)
    cramer | mean |difference of V| | [0, 1] | lower is better | O(n (Σ K)²)
    ratio | mean |difference of η| | [0, 1] | lower is better | O(n c Σ K)
    strength | mean |r| of samples over that of real rows | >= 0, 1 for real | neither | O(1)
    rows | samples used | rows | neither | O(1)
    reference_rows | held-out rows used | rows | neither | O(1)
    """

    def __call__(self, key: Key, view: View) -> dict[str, Any]:
        layout, real, said = both(view)
        c, s = len(layout.whole), len(layout.sizes)
        found: dict[str, Array] = {}

        def apart(measure: Callable[[Columns], Array], pairs: Any) -> tuple[Array, Array, Array]:
            a, b = measure(real)[pairs], measure(said)[pairs]
            return jnp.abs(a - b).mean(), jnp.abs(a).mean(), jnp.abs(b).mean()

        if c > 1:
            found["correlation"], before, after = apart(correlations, np.triu_indices(c, 1))
            found["strength"] = after / before
        if s > 1:
            found["cramer"] = apart(lambda part: cramer(layout.one_of_k(part.state)), np.triu_indices(s, 1))[0]
        if c and s:
            found["ratio"] = apart(lambda part: ratios(part, layout.one_of_k(part.state)), np.s_[:])[0]
        if not found:
            raise GenlossError("Associations are of two columns, and this table has one; leave the probe out.")
        return where_finite(found, view.synthetic) | counts(view)


@dataclass(frozen=True)
class RareKinds:
    """The tail of a table: kinds of categories, and labels, that at most a share `rare` of real training rows has.

    kept | share of the rare kinds that a sample still has | [0, 1] | higher is more diverse | O(n Σ K)
    said | samples that have a rare kind, over their share of held-out rows | >= 0, 1 for real | neither | O(n Σ K)
    minority | samples of the rarest label, over its share of training rows | >= 0, 1 for real | neither | O(n)
    kinds | how many rare kinds there are | kinds | neither | O(1)
    rows | samples used | rows | neither | O(1)
    reference_rows | held-out rows used | rows | neither | O(1)
    """

    rare: InsideShare = 0.1
    rows: Count = 10_000  # real training rows that kinds are counted in, at most

    __post_init__ = check

    def prepare(self, key: Key, source: Source) -> dict[str, Array]:
        """The share of real training rows that each label, [classes], and each kind has, [Σ K]."""
        rows = training(key, source, self.rows)
        classes = int(np.asarray(rows["label"]).max()) + 1 if isinstance(rows, dict) and "label" in rows else 0
        shares = members(rows, classes).mean(0)  # [classes + Σ K]
        return {"label": shares[:classes], "kinds": shares[classes:]}

    def __call__(self, key: Key, view: View) -> dict[str, Any]:
        label, kinds = (view.prepared[self][part] for part in ("label", "kinds"))  # [classes], [Σ K]
        shares, classes = jnp.concatenate([label, kinds]), len(label)
        real, said = (members(rows, classes) for rows in (jax.lax.optimization_barrier(view.reference), view.synthetic))
        rare = (shares > 0) & (shares <= self.rare)  # [kinds]
        many, tail = rare.sum(), lambda part: (part * rare).any(1).mean()
        found = {
            "kept": jnp.where(many > 0, (said.any(0) & rare).sum() / jnp.maximum(many, 1), 1.0),
            "said": jnp.where(tail(real) > 0, tail(said) / jnp.where(tail(real) > 0, tail(real), 1.0), 1.0),
        }
        if classes:
            rarest = jnp.where(label > 0, label, jnp.inf).argmin()
            found["minority"] = said[:, rarest].mean() / label[rarest]
        return where_finite(found, view.synthetic) | {"kinds": many} | counts(view)


@dataclass(frozen=True)
class Utility:
    """How well scikit-learn's models tell the target of held-out real rows when trained on samples (train on synthetic,
    test on real: Esteban et al. 2017, arXiv:1706.02633; the utility of Xu et al. 2019, arXiv:1907.00503).

    A forest of 100 trees, or a logistic or ridge regression, of the columns in the space `Mixed`.  Trained on real rows
    (TRTR), the ceiling, is what a run measures of real rows.  The compiled step stops for it, chain after chain, and a
    program that contains it is compiled anew in every process; `Tabular(features=Mixed())` is the logistic one within.

    accuracy | share of labels told | [0, 1] | higher is better | one fit, on the host
    macro_f1 | F1 of each label, the mean over labels | [0, 1] | higher is better | as accuracy
    r2 | of a target that is a number, 1 - squared error / variance | <= 1 | higher is better | one fit, on the host
    rows | samples trained on | rows | neither | O(1)
    reference_rows | held-out rows tested on | rows | neither | O(1)
    """

    model: Literal["forest", "linear"] = "forest"
    features: Callable[..., Array] = Mixed()

    __post_init__ = check

    def __call__(self, key: Key, view: View) -> dict[str, Any]:
        test = jax.lax.optimization_barrier(view.reference)
        leaf = next((name for name in ("label", "y") if isinstance(test, dict) and name in test), None)
        if leaf is None:
            raise GenlossError("Utility needs rows with a label or a y; give the Table a `label`, or leave it out.")
        x, shown = view.embed(self.features, view.synthetic), view.embed(self.features, test)  # [n, f], [m, f]
        names = ("accuracy", "macro_f1") if leaf == "label" else ("r2",)
        shape = jax.ShapeDtypeStruct((len(names),), jnp.float32)
        call = lambda *arrays: _judged(self.model, leaf == "label", *map(np.asarray, arrays))  # noqa: E731
        found = jax.pure_callback(
            call, shape, x, view.synthetic[leaf], shown, test[leaf], vmap_method="sequential"
        )  # [names]
        return {name: found[i] for i, name in enumerate(names)} | counts(view)


def _judged(model: str, labels: bool, x: Any, y: Any, test_x: Any, test_y: Any) -> np.ndarray:
    """The scores of a model trained on x [n, f] and y [n]; NaN where one of them is not finite."""
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.metrics import accuracy_score, f1_score, r2_score

    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        return np.full(2 if labels else 1, np.nan, np.float32)
    if labels:
        judge: Any = RandomForestClassifier(random_state=0) if model == "forest" else LogisticRegression(max_iter=1000)
    else:
        judge = RandomForestRegressor(random_state=0) if model == "forest" else Ridge()
    alone = labels and len(np.unique(y)) == 1  # of one label no regression is fitted
    guess = np.full(len(test_y), y[0]) if alone else judge.fit(x, y).predict(test_x)
    if not labels:
        return np.array([r2_score(test_y, guess)], np.float32)
    never: Any = 0.0  # the F1 of a label that is never told
    f1 = f1_score(test_y, guess, average="macro", labels=np.unique(test_y), zero_division=never)
    return np.array([accuracy_score(test_y, guess), f1], np.float32)


# What they are made of.


def both(view: View) -> tuple[Layout, Columns, Columns]:
    """(layout, columns of held-out rows, columns of samples)."""
    layout = Layout.of(view.reference)
    return layout, layout.read(jax.lax.optimization_barrier(view.reference)), layout.read(view.synthetic)


def counts(view: View) -> dict[str, int]:
    return {"rows": count(view.synthetic), "reference_rows": count(view.reference)}


def members(rows: Rows, classes: int) -> Array:
    """Which labels and kinds each row has, [n, classes + Σ K] bool."""
    refuse_other(rows)
    label = [jax.nn.one_hot(rows["label"], classes, dtype=bool)] if classes else []
    return jnp.concatenate([jnp.zeros((count(rows), 0), bool), *label, *rows.get("kinds", ())], 1)


def steepest(a: Array, there_a: Array, b: Array, there_b: Array) -> Array:
    """The Kolmogorov-Smirnov distance sup|F - G| of numbers a [n], b [m] that are there; 1 where one has none."""
    masses = [there / jnp.maximum(there.sum(), 1) for there in (there_a, there_b)]  # [n], [m]
    x, mass = jnp.concatenate([a, b]), jnp.concatenate([masses[0], -masses[1]])  # [n + m]
    order = jnp.argsort(x)
    gap = jnp.abs(jnp.cumsum(mass[order]))  # [n + m]
    last = jnp.append(x[order][1:] > x[order][:-1], True)  # of those that are alike
    return jnp.where(last, gap, 0.0).max()


def centred(part: Columns) -> Array:
    """Numbers less the mean of their column, [n, c]; 0 where missing, and of a column that is constant."""
    there = part.there.astype(jnp.float32)  # [n, c]
    mean = (part.x * there).sum(0) / jnp.maximum(there.sum(0), 1)  # [c]
    x = jnp.where(part.there, part.x - mean, 0.0)  # [n, c]
    return jnp.where(jnp.abs(x).max(0) > 1e-6 * jnp.abs(mean), x, 0.0)  # beyond what rounding leaves


def correlations(part: Columns) -> Array:
    """Pearson's, [c, c], each over rows where both are there; 0 with one that is constant."""
    x, there = centred(part), part.there.astype(jnp.float32)  # [n, c]
    dot = lambda a, b: jnp.matmul(a.T, b, precision="highest")  # noqa: E731
    many = jnp.maximum(dot(there, there), 1)  # [c, c]
    first = dot(x, there) / many  # [c, c]: the mean of i over rows where both are there
    spread = jnp.maximum(dot(x * x, there) / many - first**2, 0.0)
    scale = jnp.sqrt(spread * spread.T)
    shared = dot(x, x) / many - first * first.T
    return jnp.where(scale > 0, shared / jnp.where(scale > 0, scale, 1.0), 0.0)


def cramer(member: Array) -> Array:
    """Cramér's V of columns [n, s, K], one of K each: [s, s]."""
    n = len(member)
    seen = jnp.einsum("nik,njl->ijkl", member, member, precision="highest")  # [s, s, K, K]
    total = member.sum(0)  # [s, K]
    expected = total[:, None, :, None] * total[None, :, None, :] / n  # [s, s, K, K]
    square = jnp.where(expected > 0, (seen - expected) ** 2 / jnp.where(expected > 0, expected, 1.0), 0.0)
    kinds = (total > 0).sum(1)  # [s]
    least = jnp.minimum(kinds[:, None], kinds) - 1  # [s, s]
    return jnp.where(least > 0, jnp.sqrt(square.sum((-1, -2)) / n / jnp.maximum(least, 1)), 0.0)


def ratios(part: Columns, member: Array) -> Array:
    """The correlation ratio of each number by each of the columns [n, s, K], over rows where it is there: [c, s]."""
    x, there = centred(part), part.there.astype(jnp.float32)  # [n, c]
    many = jnp.einsum("nc,nsk->csk", there, member, precision="highest")  # [c, s, K]
    total = jnp.einsum("nc,nsk->csk", x, member, precision="highest")  # [c, s, K]
    between = (total**2 / jnp.maximum(many, 1)).sum(-1)  # [c, s]
    whole = (x**2).sum(0)[:, None]  # [c, 1]
    return jnp.where(whole > 0, jnp.sqrt(jnp.minimum(between / jnp.where(whole > 0, whole, 1.0), 1.0)), 0.0)
