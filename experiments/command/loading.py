"""What a command runs: an experiment, by name or file, with the fields of its chain that the command line gives."""

from __future__ import annotations

import argparse
import dataclasses
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.command.numbers import near

ROOMS = ("published", "images", "text", "contamination")


def files() -> dict[str, Path]:
    """Name -> file of every experiment: a file in one of the rooms that defines `chain` or `reproduce`."""
    home = Path(__file__).parent.parent
    found = (file for room in ROOMS for file in sorted((home / room).glob("*.py")))
    return {file.stem: file for file in found if re.search(r"^(chain\b.*=|def reproduce\()", file.read_text(), re.M)}


class Experiment:
    """What is to be run, from an experiment file and the command line."""

    def __init__(
        self, name: str, subject: Any, generations: int, replicates: int | None, every: int, key: Any, store: Any = None
    ) -> None:
        self.name, self.subject, self.generations = name, subject, generations
        self.replicates, self.every, self.key = replicates, every, key
        self._store = store

    @property
    def identity(self) -> dict[str, Any]:
        """What is run, but for how far."""
        from simulator.running.drive import identity

        return identity(self.subject, self.key, self.replicates, self.every)

    @property
    def store(self) -> Any:
        """The run's folder: the one given, or one named by the experiment and the signature of what is run."""
        from simulator import Store
        from simulator.running import spec

        if hasattr(self._store, "about"):
            return self._store
        folder = self._store or Path("runs") / f"{Path(self.name).stem}-{spec.signature(self.identity)}"
        return Store(folder, experiment=self.name)

    @property
    def chain(self) -> Any:
        return getattr(self.subject, "chain", self.subject)

    @classmethod
    def load(cls, options: argparse.Namespace, own_sweep: bool = True) -> Experiment:
        """What the command line names, with the fields that it changes; its own sweep, unless one of these is swept."""
        import jax

        from simulator import Chain, GenlossError, Sweep

        module = load_module(options.experiment)
        if options.preset is not None:
            module = _preset(module, options.preset)
        chain, sweep = getattr(module, "chain", None), getattr(module, "sweep", None)
        if not isinstance(chain, Chain):
            raise GenlossError(f"{options.experiment} defines no `chain`; give it one: chain = Chain(...).")
        prog = f"genloss {options.command} {options.experiment}"
        changed, given = overridden(chain, options.fields, prog, options.usage)
        subject: Any = changed
        if isinstance(sweep, Sweep) and own_sweep and not given & set(sweep.paths):
            subject = dataclasses.replace(sweep, chain=changed)
        generations = options.generations if options.generations is not None else getattr(module, "generations", 10)
        replicates = options.replicates if options.replicates is not None else getattr(module, "replicates", None)
        every = options.every if options.every is not None else getattr(module, "every", 1)
        own = options.experiment.endswith(".py")  # where it is, so that a fork finds it from any folder
        name = str(Path(options.experiment).absolute()) if own else options.experiment
        return cls(name, subject, generations, replicates, every, jax.random.key(options.seed), options.out)


def load_module(name: str, missing_ok: bool = False) -> Any:
    """The module of an experiment, by name or by file."""
    import importlib
    import importlib.util

    from simulator import GenlossError
    from simulator.running.spec import unknown

    if name.endswith(".py"):
        file = Path(name)
        if not file.exists():
            if missing_ok:
                return None
            raise GenlossError(f"There is no file {name}.")
        # Under its own name, so that a stored chain can name what the file defines; with its neighbours in reach.
        sys.path.insert(0, str(file.parent.absolute()))
        loaded = importlib.util.find_spec(file.stem)
        if loaded is None or loaded.origin is None or Path(loaded.origin).resolve() != file.resolve():
            raise GenlossError(f"{name} has the name of another module, {file.stem}; rename the file.")
        sys.modules.pop(file.stem, None)  # its text may have changed
        try:
            return importlib.import_module(file.stem)
        except GenlossError:
            raise
        except Exception as error:
            raise GenlossError(f"{name} cannot be imported ({type(error).__name__}: {error}).") from error
    known = files()
    if name not in known:
        if missing_ok:
            return None
        raise GenlossError(unknown(name, sorted(known), "There is no experiment"))
    return importlib.import_module(f"experiments.{known[name].parent.name}.{name}")


def trusted(about: dict[str, Any], trust: bool, code: str | None) -> Any:
    """What a stored run may import: all that it names, what the user's own file is made of, or nothing (False).

    The file that the run was made with is imported where it is trusted, that of the user where it is given.
    """
    from simulator.checks.code import users

    if code is not None:
        return users(load_module(code).__name__)
    if trust and isinstance(file := about.get("experiment"), str) and file.endswith(".py"):
        load_module(file, missing_ok=True)
    return trust


def stored_runs(folders: Sequence[str]) -> list[Any]:
    """The runs, each called by its folder or, where two folders have one name, by the way to it."""
    from simulator import GenlossError, Store
    from simulator.analysis.compare import Run

    stores = [Store(folder) for folder in folders]
    paths = [store.path.resolve() for store in stores]
    for folder, path in zip(folders, paths, strict=True):
        if paths.count(path) > 1:
            raise GenlossError(f"{folder} was given twice; leave one of them out.")
    names = [store.path.name for store in stores]
    if len(set(names)) < len(names):
        names = [near(store.path) for store in stores]
    return [Run(name, store.about(), store.records()) for name, store in zip(names, stores, strict=True)]


def chosen(metrics: Sequence[str] | None, runs: Sequence[Any]) -> list[str]:
    """The measures that are named, each once, or the headlines; raises where not all of the runs have one."""
    import difflib

    from simulator import GenlossError
    from simulator.analysis.compare import measures
    from simulator.report.figures import shown

    known = measures(runs)
    for metric in metrics or ():
        if metric not in known:
            nearest = difflib.get_close_matches(metric, known, n=1, cutoff=0)[0]
            which = "The run has" if len(runs) == 1 else "The runs share"
            raise GenlossError(
                f"{which} no measure '{metric}'; the nearest is '{nearest}', and `genloss show RUN --all` lists all."
            )
    return list(dict.fromkeys(metrics or shown(known)))


def stored_model(
    run: str,
    generation: int | None,
    setting: str | None,
    replicate: int,
    trust: bool = False,
    code: str | None = None,
) -> tuple[Any, Any, dict[str, Any]]:
    """(chain, parameters of one of its models, which it is) of a stored run.

    The model of a generation (None: the last), of a setting of a sweep (None: the first), of a replicate.  `trust` and
    `code` are those of `trusted`.
    """
    found = stored_chain(run, setting, replicate, trust, code)
    params = found.params(generation)
    last = found.store.steps()[-1] if generation is None else generation
    return found.chain, params, {"run": found.store.signature, "generation": last}


def stored_chain(run: str, setting: str | None, replicate: int, trust: bool = False, code: str | None = None) -> Any:
    """One chain of a stored run: a `simulator.running.stored.StoredChain`."""
    from simulator import Store
    from simulator.running.stored import StoredChain

    store = Store(run)
    return StoredChain.of(store, setting, replicate, trusted(store.about(), trust, code))


def _preset(module: Any, name: str) -> Any:
    """What an experiment defines (chain, sweep, generations, replicates, every), as one of its `presets` has it."""
    from types import SimpleNamespace

    from simulator import GenlossError
    from simulator.running.spec import unknown

    presets = getattr(module, "presets", {})
    if name not in presets:
        raise GenlossError(unknown(name, sorted(presets), "The experiment has no preset"))
    return SimpleNamespace(**presets[name])


def overridden(chain: Any, rest: list[str], prog: str, usage: str | None) -> tuple[Any, set[str]]:
    """The chain with the fields named on the command line replaced, typed by their annotations; and their names.

    With `usage` it is printed, with the fields after it, and the program ends.
    """
    import dataclasses
    from typing import Annotated

    from simulator import GenlossError
    from simulator.running import spec

    if not rest and usage is None:
        return chain, set()
    try:
        import tyro
    except ImportError:
        raise GenlossError(
            "Changing fields on the command line needs tyro; install it, or write a file of your own."
        ) from None

    found = {leaf.path: leaf for leaf in spec.leaves(chain) if leaf.type is not Any}
    names = {path: f"field{i}" for i, path in enumerate(found)}
    fields = [
        (
            names[p],
            Annotated[_typed(leaf, tyro), tyro.conf.arg(name=p, help=leaf.help)],
            dataclasses.field(default=leaf.value),
        )
        for p, leaf in found.items()
    ]
    form = dataclasses.make_dataclass("Fields", fields)
    if usage is not None:
        print(usage)
        tyro.cli(form, args=["--help"], prog=prog, description="Fields of the chain:", use_underscores=True)
    words, given = [], set()
    for token in rest:
        if token.startswith("--"):
            name, equals, value = token[2:].partition("=")
            path = name.replace("-", "_")
            if path not in found and path.replace(".no_", ".") in found:  # the switch that turns a field off
                given.add(path.replace(".no_", "."))
            elif path not in found:
                raise GenlossError(spec.unknown(path, list(found), "The chain has no field"))
            given.add(path)
            token = f"--{path}{equals}{value}"
        words.append(token)
    values = _quietly(lambda: tyro.cli(form, args=words, prog=prog, use_underscores=True))
    for path in found:
        if path in given and not _is_bounded(value := getattr(values, names[path])):
            raise GenlossError(f"--{path} takes finite numbers, and whole ones below 2^31; it was given {value}.")
    changes = {p: v for p in found if p in given and (v := getattr(values, names[p])) != found[p].value}
    return (spec.override(chain, changes) if changes else chain), given


def _is_bounded(value: Any) -> bool:
    """Whether numbers in a field's value are finite, and whole ones such as a size may have."""
    import math

    from simulator.numerics.schedule import Schedule

    if isinstance(value, Schedule):
        value = value.values
    if isinstance(value, tuple):
        return all(map(_is_bounded, value))
    return abs(value) < 2**31 if isinstance(value, int) else not isinstance(value, float) or math.isfinite(value)


def swept(path: str, value: Any, text: str) -> dict[str, float]:
    """The values of a sweep over a field that holds `value`, by how they are written: numbers with commas between."""
    import math

    from simulator import GenlossError
    from simulator.numerics.schedule import Schedule

    if isinstance(value, bool | str | tuple) or not isinstance(value, int | float | Schedule | None):
        raise GenlossError(f"--over {path}: the field holds {value!r}, and what is swept is a number; run one a value.")
    kind, what = (int, "whole numbers") if isinstance(value, int) else (float, "numbers")
    try:
        values = {word.strip(): kind(word) for word in text.split(",")}
        if not all(math.isfinite(number) and abs(number) < 2**31 for number in values.values()):
            raise ValueError
    except ValueError:
        raise GenlossError(f"--over {path} takes {what} separated by commas; it was given '{text}'.") from None
    if len(set(values.values())) < len(text.split(",")):
        raise GenlossError(f"--over {path} was given a value twice in '{text}'; leave one of them out.")
    return values


def _typed(leaf: Any, tyro: Any) -> Any:
    """The type tyro reads a field as."""
    from types import UnionType
    from typing import Annotated, Any, Literal, Union, get_args, get_origin

    import jax

    from simulator.numerics.schedule import Number, Schedule, parse

    kinds = get_args(leaf.type) if get_origin(leaf.type) in (UnionType, Union) else (leaf.type,)
    if Schedule in kinds or isinstance(leaf.value, Schedule):
        number = tyro.constructors.PrimitiveConstructorSpec(
            nargs=1,
            metavar="NUMBER|SCHEDULE",
            instance_from_str=lambda words: parse(words[0]),
            is_instance=lambda value: isinstance(value, int | float | Schedule),
            str_from_instance=lambda value: [str(value)],
        )
        return Annotated[Number, number]
    kinds = tuple(kind for kind in kinds if kind is not jax.Array)
    if all(k in (int, float, bool, str, type(None)) or get_origin(k) in (Literal, tuple) for k in kinds):
        return Union[kinds]  # noqa: UP007
    return type(leaf.value) if leaf.value is not None else Any


def _quietly(parse: Any) -> Any:
    """tyro's answer; its boxed complaint becomes a sentence."""
    import contextlib
    import io
    import itertools

    from simulator import GenlossError

    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            return parse()
    except SystemExit:
        # The first paragraph of the box, whether it is drawn with lines or with dashes.
        lines = [line.strip("│╭╰─╮╯|+- \n") for line in said.getvalue().splitlines()]
        paragraph = itertools.takewhile(bool, itertools.dropwhile(lambda line: not line, lines[1:]))
        raise GenlossError(" ".join(paragraph).rstrip(".") + ".") from None
