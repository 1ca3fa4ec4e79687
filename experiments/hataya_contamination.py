"""What does a data set lose when generated images take the place of real ones?  (Hataya et al., arXiv:2211.08095)

    genloss run hataya_contamination
    genloss reproduce hataya_contamination

2,000 real rows, of which 0, 20, 40, 80 or 100 % of every class are replaced: by what a generator says that was fitted
to all training images, by other real rows (the control), or by nothing; five seeds; an MLP trained for 300 steps on
each diet, judged by 2,000 held-out rows.  `genloss run` has the generator of low coverage, a VAE whose samples are near
the mean of their class; `genloss reproduce` has it beside the same VAE at full temperature and beside kernels about
real images, which cover everything, and draws all beside the published ImageNet curves, which were digitised.  Presets
for an accelerator: `full` and `cifar10`.  Result: not measured yet.
"""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from generators.archive import Archive
from generators.nets.convnet import ConvNet
from generators.nets.mlp import MLP
from generators.vae import VAE
from simulator import Chain, Dataset, Pool, Record, Sweep, View, ensemble
from simulator.contamination import RATIOS, Contaminate
from simulator.harm import excess, interval, worst
from simulator.pool import Rows, draw, take
from simulator.probes import Downstream, Learned, Manifold
from simulator.recipe import Select
from simulator.source import Split
from simulator.types import Array, Key

if TYPE_CHECKING:
    from experiments.reproductions import Finding, Reproduction

DATA = os.environ.get("GENLOSS_DATA", "zalando-datasets")
ARMS = {"generated": "generated", "other real": "real", "drop": "nothing"}  # arm -> what takes the place of real rows
# ResNet-50 on ImageNet, top-1 in percent at RATIOS, digitised from the first author's plot (± 0.3).
IMAGENET = {"generated": (75.6, 74.7, 72.8, 65.3, 15.5), "other real": (75.6, 75.3, 74.1, 68.4, 61.4)}


@dataclass(frozen=True)
class Kernels:
    """Of a class's training images one at random, plus noise: a diffusion model with a perfect network, stopped early.

    A kernel estimate of the density of images {"image": uint8 [h, w, c], "label"}, with all that they cover.
    """

    bandwidth: float = 0.05  # standard deviation of the noise, of white

    def init(self, key: Key) -> Any:
        return None

    def fit(self, key: Key, params: Any, pool: Pool) -> tuple[Any, dict[str, Array]]:
        return pool, {}

    def sample(self, key: Key, params: Pool, n: int) -> Rows:
        for_rows, for_noise = jax.random.split(key)
        rows = take(params.rows, draw(for_rows, params.weight, (n,)))  # leaves [n, ...]
        noise = 255 * self.bandwidth * jax.random.normal(for_noise, rows["image"].shape)
        return {**rows, "image": jnp.round(jnp.clip(rows["image"] + noise, 0, 255)).astype(jnp.uint8)}


@dataclass(frozen=True)
class Pretrained:
    """What a generator says that was fitted to all training images, as a stored set: made once in a process."""

    source: Dataset
    generator: Any
    rows: int = 10_000  # kept

    @property
    def split(self) -> Split:
        return _said(self)

    @property
    def fingerprint(self) -> str:
        return self.source.fingerprint  # the rest is in the configuration


@functools.lru_cache
def _said(stored: Pretrained) -> Split:
    real = stored.source.split
    with jax.ensure_compile_time_eval():
        model = stored.generator
        # Temperature is for sampling alone: one fit serves all.
        model, params = _fitted(
            stored.source, replace(model, temperature=1.0) if hasattr(model, "temperature") else model
        )
        model = replace(model, temperature=stored.generator.temperature) if hasattr(model, "temperature") else model
        rows = jax.jit(model.sample, static_argnums=2)(jax.random.key(2), params, stored.rows)
    return Split(jax.tree.map(np.asarray, rows), real.test, real.classes, stored.fingerprint)


@functools.lru_cache
def _fitted(source: Dataset, generator: Any) -> tuple[Any, Any]:
    real = source.split
    model = generator.shaped(real.train) if hasattr(generator, "shaped") else generator
    pool = Pool.of(jax.tree.map(jnp.asarray, real.train))
    return model, jax.jit(model.fit)(jax.random.key(1), model.init(jax.random.key(0)), pool)[0]


def contaminated(source: Dataset, generator: Any, downstream: Downstream, rows: int, held_out: int) -> Chain:
    """Fit 0 of the archive eats real rows and learns their labels; the diet of fit 1 is what a user trains on."""
    return Chain(
        source=source,
        generator=Archive(Pretrained(source, generator)),
        recipe=Select(tuple(Contaminate(0.4, by=by) for by in ARMS.values()), 0),  # pyright: ignore[reportArgumentType]
        probes={"downstream": downstream},
        real=rows,
        rows=rows,
        fresh=rows,
        held_out=held_out,
    )


def swept(chain: Chain, arms: tuple[str, ...] = tuple(ARMS)) -> Sweep:
    """Every ratio in every arm; at ratio 0 all arms are one, and at 1 nothing is left where rows are dropped."""
    ratio = ", ".join(f"recipe.recipes.{i}.ratio" for i in range(len(ARMS)))
    index = {arm: i for i, arm in enumerate(ARMS)}
    settings = {_named(r, arm): (r, r, r, index[arm]) for arm in arms for r in RATIOS if (r, arm) != (1, "drop")}
    return Sweep(chain, f"{ratio}, recipe.index", settings)


def _named(ratio: float, arm: str) -> str:
    return f"{100 * ratio:.0f} % {arm}" if ratio else "real"


SHARP = VAE(hidden=(256,), latent=16, steps=2000, temperature=0.2)  # near the mean of each class
GENERATORS = {
    "VAE, temperature 0.2": SHARP,
    "VAE, temperature 1": replace(SHARP, temperature=1.0),
    "kernels": Kernels(),
}
FEATURES = Learned(partial(MLP, hidden=(256, 64)), steps=1500)  # of real training images, to take distances in
FASHION = Dataset(DATA + "/fashion_mnist")
chain = contaminated(FASHION, SHARP, Downstream(partial(MLP, hidden=(128,))), rows=2000, held_out=2000)
sweep = swept(chain)
generations = 2
replicates = 5


def _preset(data: str, generator: VAE, downstream: Downstream, rows: int) -> dict[str, Any]:
    chain = contaminated(Dataset(DATA + data), generator, downstream, rows, held_out=10_000)
    return {"chain": chain, "sweep": swept(chain), "generations": 2, "replicates": 5}


@functools.cache
def _presets() -> dict[str, Any]:
    wide = replace(SHARP, hidden=(1024, 1024), latent=64, steps=20_000)
    conv = Downstream(ConvNet, steps=4500, batch=128)
    return {
        "full": _preset("/fashion_mnist", wide, conv, 25_000),
        "cifar10": _preset("/cifar10", wide, replace(conv, augment=True, flips=True), 20_000),
    }


def __getattr__(name: str) -> Any:
    """`presets`, made where asked for: each reads its data set."""
    if name == "presets":
        return _presets()
    raise AttributeError(name)


def measured(chain: Chain, arms: tuple[str, ...], seeds: int = replicates) -> dict[str, dict[str, np.ndarray]]:
    """Arm -> accuracy [ratios, seeds] and by class [ratios, seeds, classes], of classifiers trained on its diets."""
    sweep, keys = swept(chain, arms), jax.random.split(jax.random.key(0), seeds)
    record: Record = ensemble(sweep.make, sweep.grid, keys, generations)
    names, found = list(sweep.values), {}
    for arm in arms:
        rows = [names.index(name) for r in RATIOS if (name := _named(r, arm)) in names]
        leaves = {"accuracy": "downstream.diet.accuracy", "class": "downstream.diet.class"}
        found[arm] = {what: np.asarray(record[name])[rows, :, 1] for what, name in leaves.items()}
    return found


def fidelity(chain: Chain, rows: int = 2000) -> dict[str, float]:
    """Precision, recall, density and coverage of an archive against held-out real rows, by `FEATURES`."""
    prepared = {FEATURES: _features(chain.source)}
    archive: Any = chain.model
    said = archive.sample(jax.random.key(0), archive.init(jax.random.key(0)), rows)

    @jax.jit  # rows are arguments: the compiler would compute with constants
    def found(said: Rows, real: Rows) -> dict[str, Any]:
        view = View(jnp.int32(0), None, Pool.of(said), said, real, archive, prepared=prepared)
        return Manifold(FEATURES)(jax.random.key(0), view)

    return {name: float(value) for name, value in found(said, chain.reference).items()}


@functools.lru_cache
def _features(source: Any) -> Any:
    return FEATURES.prepare(jax.random.key(0), source)


def reproduce(generators: dict[str, Any] | None = None, seeds: int = replicates) -> Reproduction:
    """All ratios, arms and generators: accuracies beside those of ImageNet, the harm, and the claims of the paper."""
    from experiments.reproductions import Reproduction

    generators = GENERATORS if generators is None else generators
    chains = {
        name: contaminated(FASHION, generator, chain.probes["downstream"], chain.real, chain.held_out)  # pyright: ignore
        for name, generator in generators.items()
    }
    first, *others = chains
    found = measured(chains[first], tuple(ARMS), seeds)
    generated = {first: found["generated"]}
    for name in others:
        generated[name] = measured(chains[name], ("generated",), seeds)["generated"]
    covered = {name: fidelity(chains[name]) for name in chains}
    findings = [
        finding
        for name, scores in generated.items()
        for finding in _findings(name, scores, found["other real"], covered[name])
    ]
    return Reproduction(findings, _figure(generated, found, covered))


def _findings(
    name: str, generated: dict[str, np.ndarray], control: dict[str, np.ndarray], covered: dict[str, float]
) -> list[Finding]:
    from experiments.reproductions import Finding

    percent = {what: 100 * a["accuracy"] for what, a in (("generated", generated), ("other real", control))}
    harm = percent["other real"] - percent["generated"]  # [ratios, seeds]
    published = [f"{a - b:.1f} (ImageNet)" for a, b in zip(*reversed(IMAGENET.values()), strict=True)]
    low, full = covered["coverage"] < 0.5, covered["coverage"] > 0.9
    rows = [
        Finding(f"{name}: {what} of held-out rows", None, None, covered[what], 0.0)
        for what in ("precision", "recall", "density", "coverage")
    ]
    rows += [
        Finding.of_mean(f"{name}: excess harm at {100 * r:.0f} %, points", published[i] if low else None, None, harm[i])
        for i, r in enumerate(RATIOS)
        if r
    ]
    picked, _ = worst(control["class"][-1], generated["class"][-1])
    damage = 100 * (control["class"] - generated["class"])[-1, :, picked]  # [seeds]
    called = f"{name}: the same of the worst class ({FASHION.split.classes[picked]})"
    rows.append(Finding.of_mean(called, None, None, damage))
    for i in (-1, 0):
        between = f"{100 - 100 * RATIOS[1:][i]:.0f} to {100 - 100 * RATIOS[:-1][i]:.0f} %"
        worth = (percent["generated"][:-1] - percent["generated"][1:])[i] / (100 * (RATIOS[1:][i] - RATIOS[:-1][i]))
        rows.append(
            Finding.of_mean(f"{name}: points a percent of real rows is worth, {between} real", None, None, worth)
        )
    mean, within = percent["generated"].mean(1), excess(percent["other real"], percent["generated"])
    claims: dict[str, bool] = {}
    if low:
        claims = {
            "accuracy falls with every ratio": bool((np.diff(mean) < 0).all()),
            "generated at or below other real at every ratio": bool((within.mean >= 0).all()),
            "it falls further from 80 to 100 % than from 0 to 80 %": bool(mean[3] - mean[4] > mean[0] - mean[3]),
        }
    if full:
        claims = {"harm of 0 is in every interval": bool((within.low <= 0).all())}
    return rows + [Finding(f"{name}: {what}", 1.0, None, float(holds), 0.0) for what, holds in claims.items()]


def _figure(
    generated: dict[str, dict[str, np.ndarray]], found: dict[str, dict[str, np.ndarray]], covered: dict[str, Any]
) -> Any:
    from matplotlib.figure import Figure

    from simulator.report.figures import COLOURS

    figure = Figure(figsize=(3.1 * (1 + len(generated)), 3.6), layout="constrained")
    panels = figure.subplots(1, 1 + len(generated))
    x = 100 * np.array(RATIOS)
    colours = dict(zip(ARMS, (COLOURS[0], COLOURS[1], "0.45"), strict=True))
    for arm, values in IMAGENET.items():
        panels[0].plot(x, values, color=colours[arm], ls="--", marker="o", ms=3.5, lw=1.3)
    panels[0].set_title("ImageNet, ResNet-50\npublished, digitised (± 0.3)", fontsize=9)
    panels[0].set_ylabel("accuracy on clean held-out rows, %", fontsize=9)
    for panel, (name, scores) in zip(panels[1:], generated.items(), strict=True):
        for arm, colour in colours.items():
            values = 100 * (scores if arm == "generated" else found[arm])["accuracy"]  # [ratios, seeds]
            band = interval(values)
            panel.plot(x[: len(values)], band.mean, color=colour, marker="o", ms=3.5, lw=1.8, label=arm)
            panel.fill_between(x[: len(values)], band.low, band.high, color=colour, alpha=0.2, lw=0)
        panel.set_title(f"Fashion-MNIST, {name}\ncoverage {covered[name]['coverage']:.2f}", fontsize=9)
    low = min(line.get_ydata().min() for panel in panels[1:] for line in panel.lines)  # pyright: ignore
    for i, panel in enumerate(panels):
        panel.spines[["top", "right"]].set_visible(False)
        panel.set_xlabel("real rows replaced, %", fontsize=9)
        panel.set_xticks(x)
        panel.tick_params(labelsize=8)
        if i:
            panel.set_ylim(low - 2, None)
    handles, labels = panels[1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, fontsize=9)
    return figure
