"""Diffusion: DDPM, DDIM, flow matching (MeanFlow among it) and EDM, class-conditional, for images and for points."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx

from generators.edm import EDM
from generators.given import labels
from generators.meanflow import MeanFlow
from generators.nets.denoiser import Denoiser
from generators.noise import Flow, Noise
from generators.rows import grey, looked, named, seen, shares
from generators.steps import Steps, clean_and_noise, step, target
from generators.train import Trained
from simulator.checks.fields import BelowOne, Count, NonNegative, Positive
from simulator.numerics.chance import fold_in, normal, uniform
from simulator.numerics.selection import draw
from simulator.numerics.streams import streams
from simulator.pool import Pool, Rows
from simulator.types import Array, GenlossError, Key, Params

Network = Callable[..., Any]
"""`network(shape, classes, dtype=..., rngs=...)` builds a flax.nnx module `(x, t, label) -> [n, *shape]` float32.

`shape` is that of a row, (h, w, c) for images and (d,) for points; `classes` is their number, or None.  x is
[n, *shape] float32; t [n] float32 is the time in steps of the schedule, or t [n, 2] two of them for MeanFlow, which
builds a network with `times=2`; label [n] int32 has the value `classes` where it is left out, which is the null label
of guidance.  All that a module holds must be `nnx.Param` in float32; `dtype` is what it computes in.
"""


@dataclass(frozen=True, kw_only=True)
class Diffusion(Trained):
    """Rows are {"image": uint8 [h, w, c], "label": int32}, or points [n, d], or {"x": points, "label": int32}.

    Minimises E‖told(x, t, label) - target‖² per value, x = a·x0 + s·ε, at times that are uniform (Ho et al. 2020,
    arXiv:2006.11239, eq. 14, and its like for other targets); images are scaled to [-1, 1], points are taken as they
    are and should be of about unit scale.  With `min_snr` each weighs as ‖x̂0 - x0‖² times the signal-to-noise ratio
    cut at γ does (Hang et al. 2023, arXiv:2303.09556, eq. 8; theirs is 5).  Labels are drawn from their weighted share
    of the diet.  `shape`, `classes` and whether rows are images are taken from the source where they are left open.

    Guidance takes null + guidance·(labelled - null) of what the network tells with and without the label (Ho & Salimans
    2022, arXiv:2207.12598, whose w is guidance - 1): 1 is none, 0 ignores the label.  Temperature τ scales every normal
    number a sampler draws: x_T ~ N(0, τ²I), and τ·z for the z of each step.  With `stop` sampling ends while rows are
    still noisy, and they are returned in units of rows, x/a: the law of the data convolved with N(0, (s/a)²I), if
    the network is perfect; a kernel estimate of bandwidth s/a, if it is perfect for the rows it was trained on.
    """

    network: Network = Denoiser
    noise: Noise | Flow | EDM | MeanFlow = Noise()  # schedule, sampler, and what the network tells
    shape: tuple[Count, ...] | None = None  # of a row, [h, w, c] or [d]; None takes the source's
    classes: Count | None = None  # number of labels; None takes the source's
    conditional: bool = True  # False: the network is told no label; samples draw theirs whatever they show
    learning_rate: Positive = 1e-3  # peak of the cosine schedule
    average: BelowOne = 0.999  # decay of the moving average of weights that is sampled from
    min_snr: Positive | None = None  # γ: losses weigh min(a²/s², γ), as of x0; None: as the network's target does
    drop: BelowOne = 0.1  # share of training rows whose label is left out, which guidance needs
    flips: bool = False  # mirror every second training image
    dtype: Literal["float32", "bfloat16"] = "float32"  # what networks compute in; weights are float32
    sample_steps: Count = 50  # of the sampler
    sample_batch: Count = 500  # rows sampled side by side
    guidance: NonNegative | Array = 1.0  # weight of what is told with the label against what is told without
    temperature: NonNegative | Array = 1.0  # τ, scale of all normal numbers that sampling draws
    stop: BelowOne = 0.0  # time at which sampling ends, as a share of the schedule's

    def __post_init__(self) -> None:
        super().__post_init__()
        if self._guided and not (self.conditional and self.drop):
            raise GenlossError(
                "Guidance needs a network that knows rows with and without label: `conditional`, and `drop` above 0, "
                "such as 0.1."
            )
        self.noise.steps(self.sample_steps, self.stop)
        built = getattr(self.network, "func", self.network)  # by a partial, or by itself
        if self._times and "times" not in inspect.signature(getattr(built, "__init__", built)).parameters:
            raise GenlossError("MeanFlow tells a network two times, which `Denoiser` takes; choose it as `network`.")

    def shaped(self, rows: Rows) -> Diffusion:
        """The same for rows like these."""
        look = looked(self, rows)
        if self.flips and not look.images:
            raise GenlossError("`flips` mirrors images; leave it out for points.")
        if self._guided and look.classes is None:
            raise GenlossError("These rows have no label; leave `guidance` at 1.")
        noise = self.noise.for_images(look.images)
        return dataclasses.replace(self, shape=look.shape, classes=look.classes, noise=noise)

    def init(self, key: Key) -> Params:
        """{"net": parameters of the network} and, of rows with labels, "labels": [classes] their shares, uniform."""
        params = {"net": nnx.as_pure(nnx.split(self._net(key), nnx.Param)[1])}
        return params if self.classes is None else {**params, "labels": jnp.full(self.classes, 1 / self.classes)}

    def closed_form(self, params: Params, pool: Pool) -> Params:
        return params if self.classes is None else {**params, "labels": shares(pool, self.classes)}

    def losses(self, key: Key, params: Params, rows: Rows) -> Array:
        """Squared error of each value of a row, [n, *shape]."""
        for_time, for_noise, for_drop, for_flip = (fold_in(key, i) for i in range(4))
        x0 = seen(rows)  # [n, *shape]
        n = x0.shape[0]
        if self.flips:
            mirrored = uniform(for_flip, (n, 1, 1, 1)) < 0.5
            x0 = jnp.where(mirrored, x0[:, :, ::-1], x0)
        # Times of a batch are spread evenly: each is uniform, and their mean loss varies less (arXiv:2107.00630).
        t, a, s = self.noise.at((uniform(for_time, ()) + jnp.arange(n) / n) % 1)  # [n] each
        a, s = _along(a, x0), _along(s, x0)  # [n, 1..] each
        eps = normal(for_noise, x0.shape)  # [n, *shape]
        label = None
        if self._classes is not None:
            dropped = uniform(for_drop, (n,)) < self.drop
            label = jnp.where(dropped, self._classes, rows["label"])  # [n]
        net, x = self._merged(params["net"]), a * x0 + s * eps  # [n, *shape]
        kind, scale = self.noise.prediction_type, self.noise.sigma_data
        goal = target(kind, x0, eps, a, s, scale)  # [n, *shape]
        if isinstance(self.noise, MeanFlow):
            told, goal = self.noise.averaged(fold_in(key, 4), lambda x, t: net(x, t, label), x, t, goal)
        else:
            told = net(x, t, label)
        losses = jnp.square(told - goal)
        if self.min_snr is None:
            return losses
        moved = clean_and_noise(kind, jnp.ones(()), jnp.zeros(()), a, s, scale)[0]  # of x̂0, by what is told
        return losses * jnp.minimum(jnp.square(a / s), self.min_snr) * jnp.square(moved)

    @property
    def completes(self) -> bool:
        """Labels can be given, where rows have some."""
        return self.classes is not None

    def sample(self, key: Key, params: Params, n: int, given: Rows | None = None) -> Rows:
        """Rows as the source serves them, `sample_batch` at a time; their labels those of `given`, or drawn by share.

        Row i draws from a key of its own, so that it is the same in a batch of any size, as far as the matmuls of the
        network are: a processor may add up a row's products in another order where more rows stand beside it.
        """
        parts = jax.lax.map(lambda i: self.portion(key, params, n, i, given), jnp.arange(self.portions(n)))
        return jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:])[:n], parts)  # leaves [n, ...]

    def repelled(self, params: Params, other: Params, strength: Array) -> Params:
        """These parameters, with the network of others that sampling is led away from (`SelfImproved`)."""
        return {**params, "other": other["net"], "strength": strength}

    def portions(self, n: int) -> int:
        """Batches that a sample of n rows is made in."""
        return -(-n // min(self.sample_batch, n))

    def portion(self, key: Key, params: Params, n: int, i: Array, given: Rows | None = None) -> Rows:
        """Batch i of `sample(key, params, n, given)`; of the last, rows beyond n are to be thrown away."""
        for_label, for_rows = fold_in(key, 0), fold_in(key, 1)
        batch = min(self.sample_batch, n)
        index = i * batch + jnp.arange(batch)  # [batch]
        keys = jax.vmap(lambda i: fold_in(for_rows, i))(index)  # [batch]
        net = self._network(params)
        if self.classes is None:
            if given is not None:
                raise GenlossError("These rows have no label, and nothing else can be given to a Diffusion.")
            return named(self._written(self._denoised(keys, net, None)), None, self._images)
        all_labels = (
            draw(for_label, params["labels"], (n,)) if given is None else labels(given, n, "A Diffusion")
        )  # [n]
        label = all_labels[jnp.minimum(index, n - 1)]  # [batch]
        values = self._written(self._denoised(keys, net, label if self.conditional else None))
        return named(values, label, self._images)

    def _denoised(self, keys: Key, net: Any, label: Array | None) -> Array:
        """Rows from noise, [n, *shape]; keys [n], label [n]."""
        plan, signal = self.noise.steps(self.sample_steps, self.stop)
        # The step's number is folded into each row's key, 0 for the noise it begins with.
        noise = jax.vmap(lambda key, i: self.temperature * normal(fold_in(key, i), self._shape), (0, None))

        def one(carry: tuple[Array, Array | None], now: tuple[Array, Steps]) -> tuple[tuple[Array, Array | None], None]:
            (x, before), (i, c) = carry, now
            z = noise(keys, i) if plan.fresh.any() else 0.0
            x, eps = step(self.noise, c, self._told(net, x, c.t, label), x, z, before)
            return (x, None if before is None else eps), None

        steps = (jnp.arange(1, len(plan.t) + 1), jax.tree.map(jnp.asarray, plan))  # leaves [steps]
        x = noise(keys, 0)
        before = jnp.zeros_like(x) if plan.past.any() else None
        return jax.lax.scan(one, (x, before), steps)[0][0] / signal

    def _told(self, net: Any, x: Array, t: Array, label: Array | None) -> Array:
        """What the network tells of x [n, *shape] at one time t, [] or [2], under guidance."""
        n = x.shape[0]
        times = lambda n: jnp.broadcast_to(t, (n, *t.shape))  # noqa: E731
        if label is None or self._classes is None or not self._guided:
            return net(x, times(n), label)
        null = jnp.full(n, self._classes)
        both = net(jnp.concatenate([x, x]), times(2 * n), jnp.concatenate([label, null]))  # [2 n, *shape]
        labelled, unlabelled = both[:n], both[n:]
        return unlabelled + self.guidance * (labelled - unlabelled)

    def _written(self, x: Array) -> Array:
        """Rows in the type in which the source serves them."""
        return grey(x) if self._images else x

    @property
    def _guided(self) -> bool:
        return not (isinstance(self.guidance, int | float) and self.guidance == 1)

    @property
    def _images(self) -> bool:
        return len(self._shape) == 3

    @property
    def _classes(self) -> int | None:
        """Labels that the network is told."""
        return self.classes if self.conditional else None

    @property
    def _shape(self) -> tuple[int, ...]:
        if self.shape is None:
            raise GenlossError(
                "This Diffusion has no shape of rows; give `shape`, or let a chain take it from its source."
            )
        return self.shape

    @property
    def unrolled(self) -> bool:
        """On CPU, for a network of convolutions, whose step is many times slower inside a loop than alone.

        Those of `nets/unet.py` have a derivative of their own, which is not.  Compiling takes as much longer as `chunk`
        is large: 10 is enough.  `fit`, and so `simulate`, is a loop over chunks, and slow all the same; `run` is not.
        """
        label = None if self._classes is None else jnp.zeros(1, jnp.int32)
        program = jax.make_jaxpr(lambda x, t: self._net(jax.random.key(0))(x, t, label))
        said = str(program(jnp.zeros((1, *self._shape)), self.noise.at(jnp.zeros(1))[0]))
        plain = "conv_general_dilated" in said and "custom_vjp_call" not in said
        return plain and jax.default_backend() == "cpu"

    def _net(self, key: Key) -> Any:
        dtype, rngs = jnp.dtype(self.dtype), streams(key)
        return self.network(self._shape, self._classes, dtype=dtype, rngs=rngs, **self._times)

    @property
    def _times(self) -> dict[str, int]:
        """What a network is asked for beside its shapes, where it is told two times."""
        return {"times": 2} if isinstance(self.noise, MeanFlow) else {}

    def _network(self, params: Params) -> Any:
        """What tells rows: the network, or (1 + w) of it less w of another, whose scores so are combined alike."""
        net = self._merged(params["net"])
        if "other" not in params:
            return net
        other, w = self._merged(params["other"]), params["strength"]
        return lambda x, t, label: (1 + w) * net(x, t, label) - w * other(x, t, label)

    def _merged(self, net: Params) -> Any:
        """The network with these parameters."""
        return nnx.merge(nnx.split(nnx.eval_shape(self._net, jax.random.key(0)), nnx.Param)[0], net)


def _along(a: Array, x: Array) -> Array:
    """One number for each row, a [n], with the axes of x: [n, 1..]."""
    return a.reshape(-1, *[1] * (x.ndim - 1))
