"""What `--over` asks for: settings that one program computes side by side, and those that are runs of their own."""

from __future__ import annotations

import argparse
import functools
import itertools
import math
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.command.loading import Experiment, overridden, swept
from experiments.command.numbers import KEYS, whole

if TYPE_CHECKING:
    from simulator import Sweep

OPTIONS = {"preset": str, "seed": whole(0, KEYS)}  # of the command, which can be swept like fields: a run each
KEPT = ("preset", "replicates", "seed", "every", "generations", "save_seconds", "mesh", "track", "cache", "memory")


@dataclass(frozen=True)
class Run:
    """Settings that are one program, in a folder of their own where the sweep has several."""

    name: str  # of its folder
    experiment: Experiment
    words: list[str]  # the command that does it

    @property
    def done(self) -> bool:
        """Whether nothing of it is missing."""
        store, generations = self.experiment.store, self.experiment.generations
        have = (store.steps() or [-1])[-1] + 1 >= generations and store.has_ceiling()
        return have and (store.path / "records.parquet").exists()


@dataclass(frozen=True)
class Grid:
    """Every combination of the values of some fields, as they are written on the command line."""

    options: argparse.Namespace
    base: Experiment
    together: Mapping[str, Sweep]  # path -> its sweep: all of them are one program
    apart: Mapping[str, Sequence[str]]  # path -> values as written: a run each

    @classmethod
    def read(cls, options: argparse.Namespace) -> Grid:
        from simulator import GenlossError, Sweep
        from simulator.running.spec import leaves, unknown
        from simulator.running.sweep import Apart

        base = Experiment.load(options, own_sweep=False)
        fields = {leaf.path: leaf.value for leaf in leaves(base.chain)}
        together: dict[str, Sweep] = {}
        apart: dict[str, Sequence[str]] = {}
        for given in options.over or [""]:
            path, equals, text = given.partition("=")
            path = path.strip().replace("-", "_")
            if not equals:
                raise GenlossError("Say which field to sweep and over what: --over recipe.real=0,0.1,0.5.")
            if path in together or path in apart:
                raise GenlossError(f"--over {path} was given twice; give it all its values at once.")
            if path not in fields and path not in OPTIONS:
                raise GenlossError(unknown(path, list(fields), "The chain has no field"))
            if path in OPTIONS or isinstance(fields[path], str):
                apart[path] = _words(options, base, path, text)
                continue
            values = swept(path, fields[path], text)
            sweep = Sweep(base.chain, path, {f"{path}={word}": value for word, value in values.items()})
            try:
                sweep.check()
                together[path] = sweep
            except Apart:
                apart[path] = list(values)
        return cls(options, base, together, apart)

    @functools.cached_property
    def out(self) -> Path:
        """Where it all lies."""
        from simulator.running import spec

        if not self.apart:
            return self._experiment({}, self.options.out).store.path
        if self.options.out:
            return Path(self.options.out).expanduser().absolute()
        asked = [[list(sweep.values) for sweep in self.together.values()], dict(self.apart), self.base.identity]
        return Path("runs").absolute() / f"{Path(self.base.name).stem}-{spec.signature(asked)}"

    @functools.cached_property
    def runs(self) -> list[Run]:
        """Of each combination of what is apart one, which is a chain that can be built."""
        if not self.apart:
            return [self._run({}, self.out.name, self.out)]
        found = []
        for words in itertools.product(*self.apart.values()):
            fields = dict(zip(self.apart, words, strict=True))
            name = ",".join(f"{path}={urllib.parse.quote(word, safe='+:')}" for path, word in fields.items())
            found.append(self._run(fields, name, self.out / name))
        return found

    @property
    def programs(self) -> int:
        """Of runs that differ in their seed alone it is the same."""
        return len(self.runs) // len(self.apart.get("seed", [""]))

    @property
    def settings(self) -> int:
        """Of each run."""
        return math.prod(len(sweep.values) for sweep in self.together.values())

    @property
    def words(self) -> list[str]:
        """The command that does it all."""
        over = {path: _written(sweep) for path, sweep in self.together.items()}
        over |= {path: ",".join(values) for path, values in self.apart.items()}
        return self._words(self.options, over, self.out)

    def _run(self, fields: Mapping[str, str], name: str, folder: Path) -> Run:
        """The run that has these values of what is apart."""
        over = {path: _written(sweep) for path, sweep in self.together.items()}
        return Run(name, self._experiment(fields, folder), self._words(self._options(fields), over, folder))

    @staticmethod
    def _words(options: argparse.Namespace, over: Mapping[str, str], folder: Path) -> list[str]:
        """The command with these options, its results in a folder."""
        kept = [(f"--{key.replace('_', '-')}", getattr(options, key)) for key in KEPT]
        flags = [("--over", f"{path}={values}") for path, values in over.items()]
        flags += [(flag, str(value)) for flag, value in kept if value is not None] + [("--out", str(folder))]
        words = [word for pair in flags for word in pair]
        return ["sweep" if over else "run", options.experiment, *words, *options.fields]

    def _options(self, fields: Mapping[str, str]) -> argparse.Namespace:
        options = argparse.Namespace(**vars(self.options))
        for path in fields.keys() & OPTIONS.keys():
            setattr(options, path, OPTIONS[path](fields[path]))
        own = (word for path, value in fields.items() if path not in OPTIONS for word in (f"--{path}", value))
        options.fields = [*options.fields, *own]
        return options

    def _experiment(self, fields: Mapping[str, str], folder: Any) -> Experiment:
        options = self._options(fields)
        options.out = folder
        experiment = Experiment.load(options, own_sweep=not self.together)
        if self.together:
            experiment.subject = self._swept(experiment.chain)
        return experiment

    def _swept(self, chain: Any) -> Sweep:
        """Every combination of what is together."""
        from simulator import Sweep

        sweeps = list(self.together.values())
        if len(sweeps) == 1 and not self.apart:
            return sweeps[0]
        settings: dict[str, Any] = {}
        for combined in itertools.product(*(sweep.values.items() for sweep in sweeps)):
            values = [value for _, value in combined]
            settings[", ".join(name for name, _ in combined)] = tuple(values) if len(values) > 1 else values[0]
        return Sweep(chain, ", ".join(self.together), settings)


def _written(sweep: Sweep) -> str:
    return ",".join(name.removeprefix(f"{sweep.path}=") for name in sweep.values)


def _words(options: argparse.Namespace, base: Experiment, path: str, text: str) -> list[str]:
    """The values of what is no number, each of which can be given."""
    from simulator import GenlossError

    words = [word.strip() for word in text.split(",")]
    if len(set(words)) < len(words):
        raise GenlossError(f"--over {path} was given a value twice in '{text}'; leave one of them out.")
    for word in words:
        if path in OPTIONS:
            try:
                OPTIONS[path](word)
            except argparse.ArgumentTypeError as error:
                raise GenlossError(f"--over {path}: it {error}.") from None
        else:
            overridden(base.chain, [f"--{path}", word], f"genloss sweep {options.experiment}", None)
    return words
