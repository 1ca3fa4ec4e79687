"""What helps whoever must train on a contaminated data set?  (The remedies of Hataya et al., arXiv:2211.08095)

    genloss run contamination_mitigations
    genloss reproduce contamination_mitigations

Real rows of Fashion-MNIST, of which 0, 40, 80 or 95 % of every class are replaced by images of the VAE of
`hataya_contamination` that lie near the mean of their class and carry a watermark; five seeds, judged by an MLP.  The
user has the mixed set and no note of what is what, but for a tenth of the rows whose origin somebody knows: from those
a detector learns.  Richer prompts (160 in place of 10, one for each kind within a class) are what the makers of the
images could have done; pre-training without labels is what a user with some clean labels can do.
Result: detection is easy here (AUROC 1.00 by spectrum and by neighbours, 0.997 by a network,
with the watermark or without it), and a detector leaves no generated row.  Whether that helps depends on what is left.
Of 2,000 rows it hurts: -1.4 ± 0.4 and -7.0 ± 0.8 points at 80 and 95 %, as knowing every origin does, since 400 or 100
real rows teach less alone than beside images near the mean of each class; of 10,000 it gains 1.3 ± 0.3 and 1.0 ± 0.8,
of the 3.0 and 5.5 that there were to lose.  Weights by the detector do as dropping does.  Keeping the half that lies
furthest apart gains nothing (0.1 ± 0.3 and -0.1 ± 0.2), and costs a clean set 2.5 ± 0.2.  Richer prompts gain 0.6 ± 0.2
and 2.1 ± 0.4 points of 2,000 rows (recall 0.01 -> 0.06, coverage 0.21 -> 0.24).  A regression on 1,000 real labels
after masked pre-training has 66 % at every ratio: it loses nothing, and has less than what the others lose.  Seeds
share one generator, the set it said and the held-out rows, whose chance is in no error.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.contamination.findings import NOTE
from experiments.contamination.hataya_contamination import FASHION, SHARP, TASK, Pretrained, fidelity
from generators.archive import Archive
from generators.nets.masked import MaskedAutoencoder
from generators.nets.mlp import MLP
from generators.prompted import Prompted
from generators.watermarked import Watermarked
from simulator import Chain, Record, Sweep, ensemble
from simulator.analysis.harm import interval
from simulator.pool import Rows
from simulator.probes import Detection, Diet, Masked
from simulator.probes.features import pictures
from simulator.recipe import Accumulate, Select, Then
from simulator.recipe.contamination import Contaminate
from simulator.recipe.suspects import Detector, DropSuspects, FarthestPoints, ReweighSuspects
from simulator.recipe.watermark import FilterWatermark
from simulator.types import Array

if TYPE_CHECKING:
    from experiments.command.reproductions import Finding, Reproduction

measured = {
    "reproduce": {"cpu_seconds": 873, "on": "two busy CPU cores", "date": "2026-11-27"},
}

RATIOS = (0.0, 0.4, 0.8, 0.95)  # at 100 % nothing is left to whoever drops all that is generated


def small(rows: Rows) -> Array:
    """Means of 4 x 4 pixels, [n, (h/4)(w/4)c]: enough to tell how far images are from each other."""
    x = pictures(rows)  # [n, h, w, c]
    n, h, w, c = x.shape
    return x.reshape(n, h // 4, 4, w // 4, 4, c).mean((2, 4)).reshape(n, -1)


GENERATED, CONTROL, DROP = Contaminate(0.8), Contaminate(0.8, by="real"), Contaminate(0.8, by="nothing")
REMEDIES = {
    "other real rows": (CONTROL, Accumulate()),
    "nothing": (GENERATED, Accumulate()),
    "drop by detector": (GENERATED, DropSuspects(Detector())),
    "weigh by detector": (GENERATED, ReweighSuspects(Detector())),
    "drop by watermark": (GENERATED, FilterWatermark()),
    "keep the half furthest apart": (GENERATED, FarthestPoints(0.5, features=small)),
    "drop by knowing": (DROP, Accumulate()),
}
SOME = ("other real rows", "nothing", "drop by detector", "drop by watermark")
SPOILING = ("drop by detector", "drop by watermark", "keep the half furthest apart")  # what clean sets may suffer by


def treated(generator: Any, probes: dict[str, Any], remedies: tuple[str, ...], rows: int = 2000) -> Chain:
    """The diet of fit 1 is the contaminated set, treated by the remedy at `recipe.index`."""
    return Chain(
        source=FASHION,
        generator=Archive(Pretrained(FASHION, generator)),
        recipe=Select(tuple(Then(*REMEDIES[name]) for name in remedies), 0),
        probes=probes,
        real=rows,
        rows=rows,
        fresh=rows,
        held_out=2000,
    )


def swept(chain: Chain, remedies: tuple[str, ...], ratios: tuple[float, ...] = RATIOS) -> Sweep:
    """Every remedy at every ratio."""
    ratio = ", ".join(f"recipe.recipes.{i}.recipes.0.ratio" for i in range(len(remedies)))
    settings = {
        f"{name}, {100 * r:.0f} %": (*[r] * len(remedies), i) for i, name in enumerate(remedies) for r in ratios
    }
    return Sweep(chain, f"{ratio}, recipe.index", settings)


MARKED = Watermarked(SHARP)
RICH = Watermarked(Prompted(SHARP))  # 160 prompts in place of 10
JUDGED = {"downstream": TASK, "diet": Diet()}
chain = treated(MARKED, JUDGED, tuple(REMEDIES))
sweep = swept(chain, tuple(REMEDIES), (0.95,))
generations = 2
replicates = 5


PRETRAINING = Masked(partial(MaskedAutoencoder, patch=7, width=32, depth=2), steps=300)
DETECTORS = Detection(partial(MLP, hidden=(128,)))


def judged(chain: Chain, remedies: tuple[str, ...], seeds: int, ratios: tuple[float, ...] = RATIOS) -> dict[str, Any]:
    """Remedy -> what the probes of its chain say of the treated diets, leaves [ratios, seeds, ...]."""
    settings = swept(chain, remedies, ratios)
    record: Record = ensemble(settings.make, settings.grid, jax.random.split(jax.random.key(0), seeds), generations)
    cut = lambda i: lambda leaf: np.asarray(leaf)[i * len(ratios) : (i + 1) * len(ratios), :, 1]  # noqa: E731
    return {name: jax.tree.map(cut(i), record.metrics) for i, name in enumerate(remedies)}


def told(generator: Any, rows: int = 2000) -> dict[str, Any]:
    """What detectors say of a generator's images beside held-out real ones, half of both known to them."""
    said = jax.tree.map(lambda leaf: jnp.asarray(leaf[:rows]), Pretrained(FASHION, generator).split.train)
    real = jax.tree.map(lambda leaf: jnp.asarray(leaf[:rows]), FASHION.split.test)
    return jax.jit(DETECTORS.of)(jax.random.key(0), real, said)


def reproduce(seeds: int = replicates) -> Reproduction:
    """All remedies at all ratios, and some with more rows; richer prompts; pre-training; what detectors see."""
    from experiments.command.reproductions import Finding, Reproduction

    sizes: dict[int, dict[str, np.ndarray]] = {}  # rows -> remedy -> accuracy in percent [ratios, seeds]
    findings: list[Finding] = []
    for name, generator in (("images", SHARP), ("images with a watermark", MARKED)):
        seen = told(generator)
        for detector in ("spectrum", "network", "entropy"):
            findings += [
                Finding(f"{name}, detector by {detector}: {what}", float(seen[detector][key]))
                for key, what in (("auroc", "AUROC"), ("tpr", "TPR at 1 % FPR"))
            ]
    for rows, remedies in ((2000, tuple(REMEDIES)), (10_000, SOME)):
        found = judged(treated(MARKED, JUDGED, remedies, rows), remedies, seeds)
        for remedy in ("drop by detector", "drop by watermark"):
            left = 100 * found[remedy]["diet"]["birth"][RATIOS.index(0.95)].sum(-1)  # [seeds]
            what = f"{rows:,} rows, 95 % replaced, {remedy}: % of what is left that is generated"
            findings.append(Finding.of_mean(what, left))
        rich = judged(treated(RICH, JUDGED, ("nothing",), rows), ("nothing",), seeds)
        found["richer prompts"] = rich["nothing"]
        sizes[rows] = {name: 100 * said["downstream"]["diet"]["accuracy"] for name, said in found.items()}
        findings += _findings(f"{rows:,} rows", sizes[rows])
    for name, generator in (("10 prompts", MARKED), ("160 prompts", RICH)):
        cover = fidelity(treated(generator, JUDGED, ("nothing",)))
        findings += [Finding(f"{what}, {name}", float(cover[what][-1])) for what in ("recall", "coverage")]
    masked = judged(treated(MARKED, {"masked": PRETRAINING}, ("nothing",)), ("nothing",), seeds)["nothing"]
    for ratio, accuracy in zip(RATIOS, 100 * masked["masked"]["accuracy"], strict=True):
        what = f"2,000 rows, {100 * ratio:.0f} % replaced, pre-training and real labels: accuracy, %"
        findings.append(Finding.of_mean(what, accuracy))
    return Reproduction(findings, _figure(sizes), NOTE)


def _findings(name: str, accuracy: dict[str, np.ndarray]) -> list[Finding]:
    from experiments.command.reproductions import Finding

    found = []
    for remedy, values in accuracy.items():
        for ratio, scores, without in zip(RATIOS, values, accuracy["nothing"], strict=True):
            at = f"{name}, {100 * ratio:.0f} % replaced, {remedy}"
            if remedy == "nothing":
                found.append(Finding.of_mean(f"{at}: accuracy, %", scores))
            elif ratio not in (0.0, 0.4) or (ratio == 0 and remedy in SPOILING):
                found.append(Finding.of_mean(f"{at}: points gained", scores - without))
    return found


def _figure(sizes: dict[int, dict[str, np.ndarray]]) -> Any:
    from matplotlib.figure import Figure

    from simulator.report.figures import COLOURS

    figure = Figure(figsize=(12, 4.4), layout="constrained")
    panels = figure.subplots(1, 1 + len(sizes))
    x = 100 * np.array(RATIOS)
    for panel, (rows, accuracy) in zip(panels[1:], sizes.items(), strict=True):
        panel.set_title(f"{rows:,} rows", fontsize=10)
        panel.set_ylabel("points gained over doing nothing")
        for i, name in enumerate(sizes[2000]):
            if name not in accuracy:
                continue
            colour = "black" if name == "nothing" else COLOURS[i - (i > 1)]
            style: dict[str, Any] = {"color": colour, "label": name, "marker": "o", "ms": 3.5, "lw": 1.6}
            drawn = [(panel, accuracy[name] - accuracy["nothing"])]
            for ax, values in drawn + [(panels[0], accuracy[name])] * (panel is panels[1]):
                band = interval(values)
                ax.plot(x, band.mean, **style)
                ax.fill_between(x, band.low, band.high, color=colour, alpha=0.15, lw=0)
    panels[0].set_title("2,000 rows", fontsize=10)
    panels[0].set_ylabel("accuracy on clean real rows, %")
    panels[2].sharey(panels[1])
    for panel in panels:
        panel.spines[["top", "right"]].set_visible(False)
        panel.set_xlabel("real rows replaced, %")
        panel.set_xticks(x)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    return figure
