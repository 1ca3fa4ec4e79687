"""A generator that signs what it says."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from simulator.abilities import completes, shaped
from simulator.pool import Pool, Rows
from simulator.recipe.watermark import Watermark, pictured
from simulator.sources.given import said
from simulator.types import Array, Generator, Key, Params


@dataclass(frozen=True)
class Watermarked:
    """Any generator of images, each with a watermark; what it learns from is left as it is."""

    generator: Generator
    watermark: Watermark = Watermark()

    def shaped(self, rows: Rows) -> Watermarked:
        """The same for rows like these."""
        return dataclasses.replace(self, generator=shaped(self.generator, rows))

    def init(self, key: Key) -> Params:
        """The inner generator's own start."""
        return self.generator.init(key)

    def fit(self, key: Key, params: Params, pool: Pool) -> tuple[Params, dict[str, Array]]:
        return self.generator.fit(key, params, pool)

    @property
    def completes(self) -> bool:
        return completes(self.generator)

    def sample(self, key: Key, params: Params, n: int, given: Rows | None = None) -> Rows:
        """The inner generator's rows, leaves [n, ...], their images marked."""
        rows = said(self.generator, key, params, n, given)
        image = self.watermark.embed(pictured(rows))
        return {**rows, "image": image} if isinstance(rows, dict) else image
