"""`python -m experiments.bench [core] [digits] [exact] [measures] [classifiers] [contamination]`, or `exact.golden`."""

from __future__ import annotations

import sys

import jax

from experiments.bench import classifiers, console, contamination, core, digits, exact, measures


def main() -> None:
    jobs = {"core": core.main, "digits": digits.main, "exact": exact.main, "measures": measures.main}
    jobs |= {"classifiers": classifiers.main, "contamination": contamination.main}
    jobs |= {f"exact.{name}": part for name, part in exact.PARTS.items()}
    chosen = sys.argv[1:] or ["core", "digits", "exact", "measures"]
    if unknown := [name for name in chosen if name not in jobs]:
        sys.exit(f"There is no benchmark '{unknown[0]}'; there are: {', '.join(jobs)}.")
    console.print(f"jax {jax.__version__} on {jax.devices()[0].device_kind}, compilation cache off")
    for name in chosen:
        jobs[name]()


if __name__ == "__main__":
    main()
