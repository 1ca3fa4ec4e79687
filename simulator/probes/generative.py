"""What a generation does to generators trained on it: how well a new one covers real rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import jax
import numpy as np

from simulator.abilities import shaped
from simulator.checks.fields import Count, Range, check
from simulator.pool import count
from simulator.probes.features import flat
from simulator.probes.fidelity import Frechet, Manifold
from simulator.probes.finite import counted, where_finite
from simulator.types import Array, Generator, Key, View


@dataclass(frozen=True)
class Generative:
    """A new generator trained on the diet, by weight, and the precision, recall, density, coverage and Fréchet distance
    of what it says beside held-out real rows: what a contaminated data set does to generative models (Hataya et al.
    2023, arXiv:2211.08095).

    Its budget is that of its own fit (`steps`).  It need not be the chain's generator, which in the one-step setting is
    an archive and learns nothing.  The measures are those of `Manifold` and `Frechet`.

    precision | share of its samples within the reference's manifold | [0, 1] | higher is better | a fit, O(n² d)
    recall | share of real rows within its samples' manifold | [0, 1] | higher is more diverse | as precision
    density | real balls around a sample, over k | >= 0, 1 for equal laws | higher is better | as precision
    coverage | share of real rows with a sample in their ball | [0, 1] | higher is more diverse | as precision
    frechet | squared 2-Wasserstein distance of Gaussians | features² | lower is better | O(n d² + d³)
    frechet_infinite | the same, extrapolated to endless rows | features² | lower is better | O(n d² + d³)
    rows | rows of each set | rows | neither | O(1)
    """

    generator: Generator
    features: Callable[..., Array] = flat
    neighbours: Count = 5  # k of the k-NN balls
    rows: Annotated[int, Range(2)] | None = None  # samples; None: as many as the reference has

    __post_init__ = check

    def __call__(self, key: Key, view: View) -> dict[str, Any]:
        for_start, for_fit, for_samples, for_measures = jax.random.split(key, 4)
        model = shaped(self.generator, jax.tree.map(np.asarray, view.reference))
        params, _ = model.fit(for_fit, model.init(for_start), view.diet)
        said = model.sample(for_samples, params, self.rows or count(view.reference))  # leaves [rows, ...]
        of_new = view._replace(params=params, synthetic=said, generator=model)
        shares = Manifold(self.features, self.neighbours)(for_measures, of_new)
        found = {**shares, **Frechet(self.features)(for_measures, of_new)}
        rows = found.pop("rows")
        return {**where_finite(found, counted(view.diet.rows, view.diet.weight)), "rows": rows}
