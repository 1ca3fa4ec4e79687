"""The `genloss` command.  Heavy imports stay inside the commands that need them, so that help answers at once."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.command.listing import experiments, print_experiments, print_metrics
from experiments.command.loading import Experiment, overridden, swept, trusted
from experiments.command.numbers import KEYS, Parser, Refused, near, number, place, whole
from experiments.command.stopping import STOPPED, interruptible, stopped
from experiments.imagesets import arguments

HERE = Path(__file__).parent
RUNNING = ("run", "plan", "sweep", "fork")  # commands that take the fields of a chain
_MEMORY = "of a GPU's, taken at the start: 0.4 leaves room for a second program on it (default: jax's, 0.75)"
_MESH = "devices that share the chains, and that share each minibatch, such as 8x1"
_PROCESSES = "be process I of N that share the mesh, the first at HOST:PORT; 'auto' asks the environment (SLURM, MPI)"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; 0 done, 1 the run failed, 2 bad input, 130 stopped by Ctrl-C."""
    try:
        with interruptible(for_good=argv is None):
            code = _main(argv)
            sys.stdout.flush()
        return STOPPED if stopped() else code
    except Refused as error:
        print(f"genloss: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # whoever read has gone, as `| head` does; what is left in the buffer has no reader either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _main(argv: Sequence[str] | None) -> int:
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = _parser()
    if len(arguments) == 2 and arguments[0] in RUNNING and arguments[1] in ("-h", "--help"):
        print(_usage(arguments[0]))
        return 0
    options, rest = parser.parse_known_args(arguments)
    if options.command is None:
        if rest:
            parser.error(f"unrecognized arguments: {' '.join(rest)}")
        parser.print_help()
        return 0
    if rest and options.command not in RUNNING:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if options.command == "list":
        return print_metrics() if options.what == "metrics" else print_experiments()
    return _guarded(options, rest)


def _guarded(options: argparse.Namespace, rest: list[str]) -> int:
    _prepare_jax(vars(options).pop("cache"), vars(options).pop("memory"))  # for every command, which then has neither
    import warnings

    import jax

    from simulator import GenlossError, RunFailed

    warnings.showwarning = lambda message, *_, **__: print(f"genloss: {message}", file=sys.stderr)
    try:
        _join(getattr(options, "processes", None))
        return globals()[f"_{options.command.replace('-', '_')}"](options, rest)
    except GenlossError as error:
        print(f"genloss: {error}", file=sys.stderr)
        return 2
    except RunFailed as error:
        print(f"genloss: {error}", file=sys.stderr)
        return 1
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        asked = str(error).partition("RESOURCE_EXHAUSTED: ")[2].splitlines()[0].rstrip(".")
        print(f"genloss: {asked}; lower the batch, the rows or the number of chains.", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="genloss",
        description="Generation Loss: train a model on what the last one said, again and again, and see what is lost.",
    )
    parser.add_argument("--version", action="version", version=f"genloss {_version()}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")

    def command(name: str, text: str, *, runs: bool = False) -> argparse.ArgumentParser:
        # Help of commands that take a chain's fields is printed once the chain is known.
        sub = commands.add_parser(name, help=text, description=text, allow_abbrev=False, add_help=not runs)
        sub.add_argument("--cache", default=None, metavar="DIR", help="compilation cache folder; 'off' for none")
        sub.add_argument("--memory", type=number(0.01, 1), metavar="SHARE", help=_MEMORY)
        if runs:
            sub.add_argument("-h", "--help", action="store_true", help="this help, with every field of the chain")
            sub.add_argument("--generations", type=whole(1), metavar="N", help="fits in all")
            sub.add_argument("--out", type=place, metavar="DIR", help="the run's folder (default: runs/NAME-SIGNATURE)")
            sub.add_argument("--save-seconds", type=number(0), default=60.0, metavar="S", help="between saves in a fit")
        return sub

    sub = command("list", "the experiments there are, or the metrics that probes give")
    sub.add_argument("what", nargs="?", choices=["experiments", "metrics"], default="experiments")
    for name, text in (
        ("run", "run an experiment, or go on with it"),
        ("plan", "what a run would cost, without running it"),
        ("sweep", "run an experiment at several values of one field"),
    ):
        sub = command(name, text, runs=True)
        sub.add_argument("experiment", metavar="NAME|FILE.py", help="an experiment's name, or your own file")
        sub.add_argument("--preset", metavar="NAME", help="another size of the experiment, one of its `presets`")
        sub.add_argument("--replicates", type=whole(1), metavar="R", help="chains per setting, each with its own key")
        sub.add_argument("--seed", type=whole(0, KEYS), default=0, metavar="S", help="the root key (default: 0)")
        sub.add_argument("--every", type=whole(1), metavar="K", help="generations per checkpoint")
        if name == "sweep":
            sub.add_argument("--over", metavar="FIELD=V1,V2,...", help="the field and its values")
        sub.add_argument("--mesh", metavar="CHAINxBATCH", help=_MESH)
        if name != "plan":
            sub.add_argument("--processes", metavar="HOST:PORT,N,I", help=_PROCESSES)
        if name != "plan":
            sub.add_argument("--dry-run", action="store_true", help="what it would cost, without running it")
    sub = command("reproduce", "published figures again: published, theory, ours, and the figure")
    sub.add_argument("names", nargs="*", metavar="NAME", help="of the experiments that have one; all if none is given")
    sub.add_argument("--out", type=place, default="reproductions", metavar="DIR", help="folder of figures and table")
    sub = command("fork", "go on from a generation of a run with another recipe", runs=True)
    sub.add_argument("run", type=place, metavar="RUN", help="the run's folder")
    arguments.trust(sub)
    sub.add_argument("--at", type=whole(), metavar="K", help="the last generation both share")
    sub.add_argument("--mesh", metavar="CHAINxBATCH", help=_MESH)
    sub.add_argument("--processes", metavar="HOST:PORT,N,I", help=_PROCESSES)
    sub = command("export", "write a generation of a diffusion model as a pipeline of diffusers")
    sub.add_argument("run", type=place, metavar="RUN", help="the run's folder")
    arguments.trust(sub)
    sub.add_argument("--generation", type=whole(), metavar="K", help="which generation (default: the last)")
    sub.add_argument("--to", type=place, metavar="DIR", help="the folder to write")
    sub.add_argument("--setting", metavar="NAME", help="which setting of a sweep (default: the first)")
    sub.add_argument("--replicate", type=whole(), default=0, metavar="R", help="which replicate (default: 0)")
    sub.add_argument("--label", type=whole(), metavar="L", help="of a U-Net with classes: the one that is written")
    for add in (arguments.synthesize, arguments.contaminate, arguments.compare_data):
        text = str(add.__doc__)
        add(command(add.__name__.replace("_", "-"), text[0].lower() + text[1:-1]))
    command("show", "the figures of a run, as numbers").add_argument(
        "run", type=place, metavar="RUN", help="the run's folder"
    )
    sub = command("report", "draw a run: figures and a page")
    sub.add_argument("run", type=place, metavar="RUN", help="the run's folder")
    arguments.trust(sub)
    return parser


def _version() -> str:
    import importlib.metadata

    return importlib.metadata.version("genloss")


def _prepare_jax(cache: str | None, memory: float | None = None) -> None:
    """Compiled programs are kept in the user's cache folder, so that a second start is faster.

    jax takes its share of a GPU's memory when it first looks for devices; PyTorch is held to the same where it draws.
    """
    if memory is not None:
        os.environ.pop("XLA_PYTHON_CLIENT_MEM_FRACTION", None)  # its older name: one of both may be given
        os.environ["XLA_CLIENT_MEM_FRACTION"] = str(memory)
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = cache or os.environ.get("GENLOSS_CACHE") or str(Path(home) / "genloss" / "xla")
    if folder != "off":
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", folder)
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")


def _join(text: str | None) -> None:
    """Joins the processes that share a run, before anything is computed."""
    if text is None:
        return
    from simulator import GenlossError
    from simulator.numerics.processes import join

    if text == "auto":
        return join()
    address, *numbers = text.split(",")
    if len(numbers) != 2 or not all(n.isdecimal() and n.isascii() for n in numbers) or ":" not in address:
        raise GenlossError(f"--processes takes HOST:PORT,N,I, or 'auto'; it was given '{text}'.")
    join(address, *map(int, numbers))


# run, plan, sweep, fork


def _run(options: argparse.Namespace, rest: list[str]) -> int:
    experiment = Experiment.load(options, rest, _wanted(options))
    return _plan_of(experiment, options) if options.dry_run else _go(experiment, options)


def _plan(options: argparse.Namespace, rest: list[str]) -> int:
    return _plan_of(Experiment.load(options, rest, _wanted(options)), options)


def _sweep(options: argparse.Namespace, rest: list[str]) -> int:
    from simulator import GenlossError, Sweep
    from simulator.running.spec import leaves, unknown

    experiment = Experiment.load(options, rest, _wanted(options))
    path, equals, text = (options.over or "").partition("=")
    if not equals:
        raise GenlossError("Say which field to sweep and over what: --over recipe.real=0,0.1,0.5.")
    fields = {leaf.path: leaf.value for leaf in leaves(experiment.chain)}
    if path not in fields:
        raise GenlossError(unknown(path, list(fields), "The chain has no field"))
    values = swept(path, fields[path], text)
    experiment.subject = Sweep(experiment.chain, path, {f"{path}={name}": value for name, value in values.items()})
    return _plan_of(experiment, options) if options.dry_run else _go(experiment, options)


def _reproduce(options: argparse.Namespace, rest: list[str]) -> int:
    from experiments.command.reproductions import reproduce_all

    return reproduce_all(options.names, Path(options.out))


def _fork(options: argparse.Namespace, rest: list[str]) -> int:
    from simulator import GenlossError, Store, Sweep
    from simulator.numerics.processes import alone
    from simulator.running import spec

    parent = Store(options.run)
    about = parent.about()
    trust = trusted(about, options.trust, options.code)
    stored = parent.chain(trust)
    chain, given = overridden(getattr(stored, "chain", stored), rest, "genloss fork", _wanted(options))
    if isinstance(stored, Sweep) and given & set(stored.paths):
        raise GenlossError(f"{parent.path} sweeps {stored.path}, and so does its fork; change another field.")
    if options.at is None or options.out is None:
        raise GenlossError("A fork needs --at K, the last generation both runs share, and --out DIR, its folder.")
    generations = about["generations"] if options.generations is None else options.generations
    if generations <= options.at + 1:
        raise GenlossError(f"A fork at generation {options.at} has nothing left to do; raise --generations.")
    subject = Sweep(chain, stored.path, stored.values) if isinstance(stored, Sweep) else chain
    run, name = about["run"], about.get("experiment") or "fork"
    alone(lambda: parent.fork(options.at, options.out, subject, trust))
    store = Store(options.out)
    key = spec.decode(run["key"])
    forked = Experiment(name, subject, generations, run["replicates"], run["every"], key, store)
    return _go(forked, options)


def _wanted(options: argparse.Namespace) -> str | None:
    """The command's own help, where it was asked for."""
    return _usage(options.command) if options.help else None


def _usage(command: str) -> str:
    subparsers = next(a for a in _parser()._actions if isinstance(a, argparse._SubParsersAction))
    return subparsers.choices[command].format_help()


def _go(experiment: Experiment, options: argparse.Namespace) -> int:
    from experiments.command.live import Display
    from simulator import run, theory
    from simulator.numerics.processes import leads
    from simulator.report import page

    store, mesh = experiment.store, _mesh(options)

    def go(report: Any = None) -> None:
        run(
            experiment.subject,
            experiment.key,
            experiment.generations,
            store,
            replicates=experiment.replicates,
            every=experiment.every,
            save_seconds=options.save_seconds,
            report=report,
            mesh=mesh,
        )

    if mesh is not None and not leads():  # of several processes the first shows and draws
        go()
        return 0
    with Display(experiment, store) as display:
        go(display.report)
    laws = theory.keep(store, experiment.subject)
    display.table(store.records(), store.ceiling(), laws)
    where = store.path / "report" / "index.html"
    if display.worked or not where.exists():
        where = page.write(store, laws)
    print(f"figures: {near(where.parent / 'decay.png')}\npage:    {near(where)}")
    if "genloss reproduce" in experiments().get(experiment.name, ""):
        print(f"the published figure: genloss reproduce {experiment.name}")
    return 0


def _mesh(options: argparse.Namespace) -> Any:
    """The mesh asked for, or None."""
    from simulator import GenlossError
    from simulator.running.mesh import devices

    if options.mesh is None:
        if getattr(options, "processes", None):
            raise GenlossError("Several processes share a run on one mesh; say which with --mesh, such as 8x1.")
        return None
    chain, _, batch = options.mesh.partition("x")
    if not all(n.isdecimal() and n.isascii() and len(n) < 7 for n in (chain, batch)):
        raise GenlossError(f"--mesh takes two numbers of devices, such as 8x1; it was given '{options.mesh}'.")
    return devices(int(chain), int(batch))


def _plan_of(experiment: Experiment, options: argparse.Namespace) -> int:
    from simulator.numerics.processes import leads
    from simulator.running.estimate import estimate

    e, mesh = experiment, _mesh(options)
    plan = estimate(e.subject, e.key, e.generations, e.replicates, e.every, mesh)
    if not leads():
        return 0
    for name, value in plan.items():
        print(f"{name:<28}{value}")
    print(f"{'folder':<28}{near(e.store.path)}")
    return 0


# export, show, report


def _export(options: argparse.Namespace, rest: list[str]) -> int:
    from experiments.command.export import export

    return export(options)


def _show(options: argparse.Namespace, rest: list[str]) -> int:
    from experiments.command.reading import show

    return show(options)


def _report(options: argparse.Namespace, rest: list[str]) -> int:
    from experiments.command.reading import report

    return report(options)


# synthesize


def _synthesize(options: argparse.Namespace, rest: list[str]) -> int:
    from experiments.imagesets.job import Request
    from experiments.imagesets.synthesize import synthesize

    asked = {
        name: value for name, value in vars(options).items() if name not in ("command", "cache", "workers", "shard")
    }
    where = synthesize(Request(**asked), options.shard, options.workers)
    print(near(where))
    return 0


# contaminate, compare-data


def _contaminate(options: argparse.Namespace, rest: list[str]) -> int:
    from experiments.imagesets.contaminate import contaminate
    from experiments.imagesets.masks import Contamination, parse_ratio

    given = {k: v for k, v in vars(options).items() if k not in ("command", "cache", "independent", "not_stratified")}
    given |= {"ratio": parse_ratio(options.ratio), "nested": not options.independent}
    return contaminate(Contamination(**given, stratified=not options.not_stratified))


def _compare_data(options: argparse.Namespace, rest: list[str]) -> int:
    from experiments.imagesets.compare import Comparison, compare

    return compare(Comparison(**{k: v for k, v in vars(options).items() if k not in ("command", "cache")}))


if __name__ == "__main__":
    sys.exit(main())
