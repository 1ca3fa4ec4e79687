"""What helps whoever must train on a contaminated data set?  (The remedies of Hataya et al., arXiv:2211.08095)

    genloss run contamination_mitigations
    genloss reproduce contamination_mitigations

2,000 real rows of Fashion-MNIST, of which 0, 40, 80 or 95 % of every class are replaced by images of the VAE of
`hataya_contamination` that lie near the mean of their class, and that carry a watermark; the user has the mixed set and
no note of what is what, but for a tenth of the rows whose origin somebody knows.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.hataya_contamination import FASHION, SHARP, TASK, Pretrained, fidelity
from generators.archive import Archive
from generators.nets.masked import MaskedAutoencoder
from generators.nets.mlp import MLP
from generators.prompted import Prompted
from generators.watermarked import Watermarked
from simulator import Chain, Record, Sweep, ensemble
from simulator.contamination import Contaminate
from simulator.harm import interval
from simulator.mitigation import Detector, DropSuspects, FarthestPoints, ReweighSuspects
from simulator.pool import Rows
from simulator.probes import Detection, Diet, Masked
from simulator.probes.features import pictures
from simulator.recipe import Accumulate, Select, Then
from simulator.types import Array
from simulator.watermark import FilterWatermark

if TYPE_CHECKING:
    from experiments.reproductions import Finding, Reproduction

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


def treated(generator: Any, probes: dict[str, Any], remedies: tuple[str, ...]) -> Chain:
    """The diet of fit 1 is the contaminated set, treated by the remedy at `recipe.index`."""
    return Chain(
        source=FASHION,
        generator=Archive(Pretrained(FASHION, generator)),
        recipe=Select(tuple(Then(*REMEDIES[name]) for name in remedies), 0),
        probes=probes,
        real=2000,
        rows=2000,
        fresh=2000,
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
chain = treated(MARKED, {"downstream": TASK, "diet": Diet()}, tuple(REMEDIES))
sweep = swept(chain, tuple(REMEDIES), (0.95,))
generations = 2
replicates = 5


PRETRAINING = Masked(partial(MaskedAutoencoder, patch=7, width=32, depth=2), steps=300)
DETECTORS = Detection(partial(MLP, hidden=(128,)))


def measured(chain: Chain, remedies: tuple[str, ...], seeds: int, ratios: tuple[float, ...] = RATIOS) -> dict[str, Any]:
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
    """All remedies at all ratios; richer prompts; pre-training without labels; what detectors see."""
    from experiments.reproductions import Finding, Reproduction

    found = measured(chain, tuple(REMEDIES), seeds)
    accuracy = {name: 100 * said["downstream"]["diet"]["accuracy"] for name, said in found.items()}  # [ratios, seeds]
    real = {name: 100 * said["diet"]["real"].mean(1) for name, said in found.items()}  # [ratios]
    rich = treated(RICH, chain.probes, ("nothing",))
    said = measured(rich, ("nothing",), seeds)["nothing"]
    accuracy["richer prompts"], real["richer prompts"] = 100 * said["downstream"]["diet"]["accuracy"], real["nothing"]
    masked = measured(treated(MARKED, {"masked": PRETRAINING}, ("nothing",)), ("nothing",), seeds)["nothing"]
    accuracy["pre-training, real labels"] = 100 * masked["masked"]["accuracy"]
    findings: list[Finding] = []
    for name, generator in (("images", SHARP), ("images with a watermark", MARKED)):
        seen = told(generator)
        for detector in ("spectrum", "network", "entropy"):
            findings += [
                Finding(f"{name}, detector by {detector}: {what}", None, None, float(seen[detector][key]), 0.0)
                for key, what in (("auroc", "AUROC"), ("tpr", "TPR at 1 % FPR"))
            ]
    for name, one in (("10 prompts", chain), ("160 prompts", rich)):
        findings.append(Finding(f"coverage, {name}", None, None, float(fidelity(one)["coverage"][-1]), 0.0))
    for name, values in accuracy.items():
        for i, ratio in enumerate(RATIOS):
            what = f"{name}, {100 * ratio:.0f} % replaced: "
            if name in ("nothing", "pre-training, real labels"):
                findings.append(Finding.of_mean(what + "accuracy, %", None, None, values[i]))
            elif ratio != 0.4:
                gain = values[i] - accuracy["nothing"][i]  # [seeds]
                findings.append(Finding.of_mean(what + "points gained", None, None, gain))
    return Reproduction(findings, _figure(accuracy, real))


def _figure(accuracy: dict[str, np.ndarray], real: dict[str, np.ndarray]) -> Any:
    from matplotlib.figure import Figure

    from simulator.report.figures import COLOURS

    figure = Figure(figsize=(12, 4.2), layout="constrained")
    scores, gains, left = figure.subplots(1, 3)
    x = 100 * np.array(RATIOS)
    for i, (name, values) in enumerate(accuracy.items()):
        style: dict[str, Any] = {"color": COLOURS[i % len(COLOURS)], "label": name, "marker": "o", "ms": 3.5, "lw": 1.6}
        if name == "nothing":
            style |= {"color": "black", "lw": 2.4}
        band = interval(values)
        scores.plot(x, band.mean, **style)
        scores.fill_between(x, band.low, band.high, color=style["color"], alpha=0.15, lw=0)
        if name in real:
            left.plot(x, 100 - real[name], **style)
            gain = interval(values - accuracy["nothing"])
            gains.plot(x, gain.mean, **style)
            gains.fill_between(x, gain.low, gain.high, color=style["color"], alpha=0.15, lw=0)
    scores.set_ylabel("accuracy on clean real rows, %")
    gains.set_ylabel("points gained over doing nothing")
    left.set_ylabel("generated share of what is trained on, %")
    for panel in (scores, gains, left):
        panel.spines[["top", "right"]].set_visible(False)
        panel.set_xlabel("real rows replaced, %")
        panel.set_xticks(x)
    handles, labels = scores.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False, fontsize=9)
    return figure
