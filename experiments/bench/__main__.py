"""`python -m experiments.bench [JOB ...]`: a job is a file beside this one, or a part of it, as `exact.golden` is.

`accelerator [--out DIR] [--seconds S]` is all that a device should show, in one program.
"""

from __future__ import annotations

import sys

import jax

from experiments.bench import (
    accelerator,
    audit,
    classifiers,
    contamination,
    core,
    diffusion,
    digits,
    exact,
    families,
    family_chains,
    forecast,
    language,
    measures,
    memory,
    one_step,
    onsets,
    planner,
    quality,
    say,
    sweeps,
    synthesize,
)

FILES = (
    core,
    digits,
    exact,
    measures,
    classifiers,
    diffusion,
    one_step,
    families,
    family_chains,
    quality,
    language,
    contamination,
    synthesize,
    onsets,
    planner,
    audit,
    forecast,
    memory,
    sweeps,
)
USUAL = ["core", "digits", "exact", "measures"]  # what runs where nothing is asked for


def main() -> None:
    if sys.argv[1:2] == ["accelerator"]:
        return accelerator.main(sys.argv[2:])
    jobs = {}
    for file in FILES:
        name = file.__name__.rpartition(".")[2]
        jobs |= {name: file.main} | {f"{name}.{part}": run for part, run in getattr(file, "PARTS", {}).items()}
    chosen = sys.argv[1:] or USUAL
    if unknown := [name for name in chosen if name not in jobs]:
        sys.exit(f"There is no benchmark '{unknown[0]}'; there are: {', '.join(jobs)}.")
    say(f"jax {jax.__version__} on {jax.devices()[0].device_kind}, compilation cache off")
    for name in chosen:
        jobs[name]()


if __name__ == "__main__":
    main()
