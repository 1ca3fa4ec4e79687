"""Which metrics of a run speak of what: of population risk, variance, real tails, real modes, made-up samples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from simulator.checks import code
from simulator.running.spec import unknown
from simulator.types import GenlossError

# How a metric is read.  A loss is 0 at best; nats are a loss up to a constant, so that factors add their logarithm.
READINGS = {
    "loss": "lower is better, 0 at best",
    "score": "higher is better, 1 at best; its risk is 1 less it",
    "nats": "lower is better, up to a constant",
    "likelihood": "higher is better, in nats up to a constant",
    "kept": "how much is there, 0 for nothing",
    "lost": "which share is gone, 1 for all",
}

# Kind -> "Probe.part" -> reading.  Of those that a run has the first is looked at: the nearest to the kind's meaning.
KINDS: dict[str, dict[str, str]] = {
    "risk": {
        "Risk": "loss",
        "TrueLikelihood.forward": "loss",
        "Likelihood.mean": "likelihood",
        "Regression.risk": "loss",
        "TextLoss.perplexity": "loss",
        "Perplexity.perplexity": "loss",
        "Wasserstein": "loss",
        "Moments.mean_error": "loss",
        "Fidelity.frechet": "loss",
        "Frechet.frechet": "loss",
        "Fidelity.energy": "loss",
        "Points.energy": "loss",
        "Downstream.samples.accuracy": "score",
        "Tabular.samples.loss": "nats",
        "Utility.accuracy": "score",
        "Utility.r2": "score",
        "Masked.nll": "nats",
        "Captioning.nll": "nats",
        "Mauve.mauve": "score",
        "TextLoss.finite": "loss",
    },
    "variance": {
        "Moments.variance": "kept",
        "Diversity.variance": "kept",
        "Categories.heterozygosity": "kept",
        "TextDiversity.distinct_2": "kept",
        "Stylised.volatility_ratio": "kept",
    },
    "tails": {
        "Categories.left": "kept",
        "TextLoss.lost.9": "lost",
        "Fidelity.recall": "kept",
        "Manifold.recall": "kept",
        "Perplexity.possible": "kept",
        "Centres.covered": "kept",
        "RareKinds.kept": "kept",
        "SequencePerplexity.strange": "kept",
        "Likelihood.possible": "kept",
        "Tails.es_ratio": "kept",
    },
    "modes": {
        "Modes.agreement": "kept",
        "Centres.quality": "kept",
        "Diversity.between_class": "kept",
    },
    "hallucinations": {
        "Fidelity.precision": "kept",
        "Manifold.precision": "kept",
        "ReferencePerplexity.possible": "kept",
        "Centres.quality": "kept",
    },
}


class Reading(NamedTuple):
    """A metric of a run, and how it is read."""

    metric: str  # as in records
    reading: str  # one of READINGS

    @property
    def logarithmic(self) -> bool:
        """Whether a factor of what is measured adds its logarithm."""
        return self.reading in ("nats", "likelihood")

    def worse(self, values: np.ndarray) -> np.ndarray:
        """Values of which higher ones are worse: risks, or less what is left of something."""
        turned = {"score": 1 - values, "likelihood": -values, "kept": -values, "lost": values - 1}
        return turned.get(self.reading, values)

    def back(self, worse: float) -> float:
        """The value that `worse` made this of."""
        turned = {"score": 1 - worse, "likelihood": -worse, "kept": -worse, "lost": worse + 1}
        return turned.get(self.reading, worse)

    def table(self, records: Any) -> dict[str, np.ndarray]:
        """Setting -> `worse` values [replicates, generations] of tidy records; `GenlossError` where they have gaps."""
        replicates, generations = records["replicate"].nunique(), records["generation"].nunique()
        found: dict[str, np.ndarray] = {}
        for setting, rows in records[records["metric"] == self.metric].groupby("setting", sort=False):
            once = rows.drop_duplicates(["replicate", "generation"])
            if len(rows) != len(once) or len(rows) != replicates * generations:
                raise GenlossError(
                    f"The records of {self.metric} in '{setting}' have gaps: {len(once)} different values in "
                    f"{len(rows)} rows, of {replicates} replicates and {generations} generations; give a row for each."
                )
            wide = rows.pivot(index="replicate", columns="generation", values="value")
            found[str(setting)] = self.worse(wide.to_numpy(np.float64))
        return found


def named(probes: Any) -> dict[str, str]:
    """Of probes by name, or of the "probes" of a chain.json, those of this project: name -> class."""
    found: dict[str, str] = {}
    for name, probe in probes.items() if isinstance(probes, Mapping) else ():
        said = probe.get("$type") if isinstance(probe, Mapping) else code.name(type(probe))
        home, _, kind = str(said).partition(":")
        if home == "simulator.probes":
            found[name] = kind
    return found


def looked_at(
    records: Any, probes: Mapping[str, str], own: Mapping[str, tuple[str, str]] | None = None
) -> dict[str, Reading | str]:
    """Kind -> the metric of tidy records that is looked at, or a sentence on why there is none.

    It is the first of a kind that is finite throughout.  `probes` are classes by name, as `named` gives them.  `own`
    says what a probe of one's own measures: kind -> (metric, reading), one of `READINGS`; it comes before any other.
    """
    own, known = own or {}, list(dict.fromkeys(records["metric"]))
    for kind, (metric, reading) in own.items():
        for what, given, there in (("kind", kind, KINDS), ("metric", metric, known), ("reading", reading, READINGS)):
            if given not in there:
                raise GenlossError(unknown(given, list(there), f"There is no {what}"))
    return {kind: _first(records, known, kind, probes, own.get(kind)) for kind in KINDS}


def _first(
    records: Any, known: list[str], kind: str, probes: Mapping[str, str], own: tuple[str, str] | None
) -> Reading | str:
    there = [Reading(*own)] if own else []
    for place, reading in KINDS[kind].items():
        probe, dot, part = place.partition(".")
        there += [Reading(name + dot + part, reading) for name, of in probes.items() if of == probe]
    there = [one for one in there if one.metric in known]
    for one in there:
        if np.isfinite(records.loc[records["metric"] == one.metric, "value"]).all():
            return one
    if there:
        return f"{there[0].metric} is not finite in every chain."
    probing = ", ".join(dict.fromkeys(place.partition(".")[0] for place in KINDS[kind]))
    return f"No measure of it was taken; probes that take one: {probing}."
