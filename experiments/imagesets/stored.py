"""A generation of a stored run as a maker of images."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from experiments.command.loading import stored_model
from generators.hub.pipeline import version
from simulator.abilities import completes
from simulator.sources.given import said
from simulator.types import Array, GenlossError, Key

FIELDS = {"guidance": "guidance", "steps": "sample_steps"}  # what the command calls them, and a generator


@dataclass(frozen=True, kw_only=True)
class StoredRun:
    """The generator of a run and the parameters of one of its generations, as a function of labels and seeds.

    Every image is a sample of one row with a key of its own, its label given.  `batch` rows are drawn side by side, of
    which those that are not asked for are thrown away, so that one program makes all.
    """

    path: str  # the run's folder
    generation: int | None = None
    setting: str | None = None
    replicate: int = 0
    guidance: float | None = None  # None takes the generator's own, as `steps`
    steps: int | None = None
    batch: int = 256
    strict: bool = False
    trust: bool = False  # whether the run may import what it names
    code: str | None = None  # the user's own file that it was made with

    @functools.cached_property
    def takes(self) -> Literal["label"] | None:
        """Labels, where the model is told them."""
        shares = isinstance(self._params, dict) and "labels" in self._params
        told = shares and completes(self._model) and getattr(self._model, "conditional", True)
        return "label" if told else None

    @functools.cached_property
    def labels(self) -> int | None:
        """How many labels the model knows."""
        return None if self.takes is None else self._params["labels"].shape[-1]

    @functools.cached_property
    def names(self) -> Mapping[str, int] | None:
        """Label by name, where the run's source names its classes."""
        names = getattr(getattr(self._read[0].source, "split", None), "classes", ())
        return {name: i for i, name in enumerate(names)} if names and self.takes else None

    @functools.cached_property
    def about(self) -> dict[str, Any]:
        """What a manifest says of it."""
        total = hashlib.blake2b(digest_size=16)
        for leaf in jax.tree.leaves(self._params):
            array = np.asarray(leaf)
            total.update(f"{array.dtype}{array.shape}".encode() + array.tobytes())
        model = self._model
        return {
            "pipeline": self.path,
            "class": type(model).__name__,
            **self._read[2],
            "checkpoint": total.hexdigest(),
            "sampler": getattr(getattr(model, "noise", None), "sampler", None),
            "steps": getattr(model, "sample_steps", None),
            "guidance": float(guidance) if (guidance := getattr(model, "guidance", None)) is not None else None,
            "versions": {name: version(name) for name in ("jax", "flax")},
        }

    def draw(self, told: Sequence[int | None], seeds: Sequence[int]) -> np.ndarray:
        """Images uint8 [n, h, w, c]: image i is made with the label told[i], or whatever label, from seeds[i]."""
        n = len(seeds)
        words = np.zeros((self.batch, 2), np.uint32)  # of a key: the halves of a seed
        words[:n] = [(seed >> 32, seed & 0xFFFFFFFF) for seed in seeds]
        labels = np.zeros(self.batch, np.int32)  # [batch]
        labels[:n] = [label or 0 for label in told]
        keys = jax.random.wrap_key_data(jnp.asarray(words), impl="threefry2x32")  # [batch]
        return np.asarray(self._program(self._params, keys, jnp.asarray(labels)))[:n]

    @functools.cached_property
    def _program(self) -> Any:
        model = self._model
        writers = getattr(model, "members", 1)  # a society writes in turn: one row of each, and one of them is chosen

        def one(params: Any, key: Key, label: Array) -> Array:
            first, second = jax.random.split(key)
            given = {"label": jnp.full(writers, label)} if self.takes else None
            rows = said(model, first, params, writers, given)
            return rows["image"][jax.random.randint(second, (), 0, writers)]  # [h, w, c]

        # In one thread no product is added up in parts, however many there are.
        quiet = {"xla_cpu_multi_thread_eigen": False} if self.strict and jax.default_backend() == "cpu" else None
        return jax.jit(jax.vmap(one, (None, 0, 0)), compiler_options=quiet)

    @functools.cached_property
    def _read(self) -> tuple[Any, Any, dict[str, Any]]:
        return stored_model(self.path, self.generation, self.setting, self.replicate, self.trust, self.code)

    @property
    def _params(self) -> Any:
        return self._read[1]

    @functools.cached_property
    def _model(self) -> Any:
        model = self._read[0].model
        for name, field in FIELDS.items():
            if (said := getattr(self, name)) is None:
                continue
            if field not in {f.name for f in dataclasses.fields(model)}:
                raise GenlossError(f"The run's generator, a {type(model).__name__}, has no {name}; leave it out.")
            model = dataclasses.replace(model, **{field: said})
        rows = jax.eval_shape(lambda: model.sample(jax.random.key(0), self._params, 1))
        image = rows.get("image") if isinstance(rows, dict) else None
        if image is None or image.dtype != jnp.uint8 or image.ndim != 4:
            raise GenlossError(f"The run's generator, a {type(model).__name__}, makes no images; choose another run.")
        return model
