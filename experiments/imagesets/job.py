"""What `genloss synthesize` is asked for, and all that it implies."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from experiments.imagesets import prompts
from experiments.imagesets.names import unfit_path
from experiments.imagesets.prompts import Items, Policy, Subject
from experiments.imagesets.stored import StoredRun
from experiments.imagesets.writing import MANIFEST
from generators.hub.pipeline import Pipeline, version
from simulator.running.spec import unknown
from simulator.types import GenlossError

MOST_BATCH = 2**16
IMAGES = ".genloss-images"
PACKAGES = ("genloss", "numpy", "pillow", "pyarrow")  # whose versions are noted


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the command line asks for."""

    pipeline: str | None  # a folder of diffusers, a hub id, or a run's folder
    out: str | None
    classes: str | None = None
    captions: str | None = None
    prompts: Policy | None = None
    per_class: int | None = None
    count: int | None = None
    guidance: float | None = None
    steps: int | None = None
    sampler: str | None = None
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    generation: int | None = None
    setting: str | None = None
    replicate: int = 0
    batch: int | None = None
    seed: int = 0
    strict: bool = False
    format: Literal["folder", "parquet", "both"] = "folder"
    trust: bool = False
    code: str | None = None


@dataclass(frozen=True)
class Job:
    """A request, with all that it implies."""

    request: Request
    maker: Pipeline | StoredRun
    items: Items
    batch: int

    @classmethod
    def of(cls, request: Request) -> Job:
        if request.batch is not None and not 1 <= request.batch <= MOST_BATCH:
            raise GenlossError(f"--batch is {request.batch} and must be at least 1 and at most {MOST_BATCH:,}.")
        if request.out is None:
            raise GenlossError("Say where to write the data set: --out DIR.")
        maker = _maker(request)
        batch = 1 if request.strict else request.batch or (256 if isinstance(maker, StoredRun) else 8)
        if isinstance(maker, StoredRun):
            maker = dataclasses.replace(maker, batch=batch)
        return cls(request, maker, _items(request, maker), batch)

    @property
    def out(self) -> Path:
        return Path(self.request.out or "").expanduser()

    @property
    def images(self) -> Path:
        """Where images lie: those that only parquet files are to hold are removed in the end."""
        return self.out / {"folder": "", "parquet": IMAGES, "both": "folder"}[self.request.format]

    @property
    def folders(self) -> set[str]:
        """The folders below `out` that are written into."""
        below = os.path.relpath(self.images, self.out)
        parquet = set() if self.parquet is None else {os.path.relpath(self.parquet / "data", self.out)}
        return {os.path.normpath(f"{below}/{subject.folder}") for subject in self.items.subjects} | parquet

    @property
    def parquet(self) -> Path | None:
        """Where data/*.parquet goes."""
        return {"folder": None, "parquet": self.out, "both": self.out / "parquet"}[self.request.format]

    @property
    def config(self) -> dict[str, Any]:
        """What the bytes depend on, and where the model was."""
        about = dict(self.maker.about)
        versions = {**about.pop("versions"), **{name: version(name) for name in PACKAGES}}
        asked = {name: getattr(self.request, name) for name in ("seed", "strict", "format")}
        items = {"subjects": self.items.digest, "count": len(self.items), "prompts": self.items.policy}
        where = {"pipeline_path": about.pop("pipeline")}
        return {"set": "synthetic", **where, **about, **items, **asked, "batch": self.batch, "versions": versions}

    def missing(self) -> np.ndarray:
        """Whether an item is not there, [items]."""
        missing = np.ones(len(self.items), bool)
        for i in self.items.found(self.images):
            missing[i] = False
        return missing

    @property
    def finished(self) -> bool:
        return (self.out / MANIFEST).exists() and (self.request.format == "parquet" or not self.missing().any())


def _maker(request: Request) -> Pipeline | StoredRun:
    path, both = request.pipeline, {"guidance": request.guidance, "steps": request.steps, "strict": request.strict}
    if path is None:
        raise GenlossError(
            "Say what makes the images: --pipeline with a folder of diffusers, a hub id or a run's folder."
        )
    path = str(Path(path).expanduser()) if path.startswith("~") else path
    if not (Path(path) / "chain.json").exists():
        if (request.generation, request.setting, request.replicate) != (None, None, 0):
            raise GenlossError(f"{path} is no run; leave --generation, --setting and --replicate out.")
        return Pipeline(path=path, dtype=request.dtype, sampler=request.sampler, **both)
    if request.sampler is not None:
        raise GenlossError("--sampler is for pipelines of diffusers; a run samples as its chain says, so leave it out.")
    if request.dtype != "float32":
        raise GenlossError("--dtype is for pipelines of diffusers; a run computes as its chain says, so leave it out.")
    at = {"generation": request.generation, "setting": request.setting, "replicate": request.replicate}
    return StoredRun(path=path, trust=request.trust, code=request.code, **at, **both)


def _items(request: Request, maker: Pipeline | StoredRun) -> Items:
    """The items of a request to a maker."""
    if request.classes and request.captions:
        raise GenlossError("--classes and --captions are two data sets; give one of them.")
    policy: Policy | None = None
    if maker.takes == "prompt":
        policy = request.prompts or ("caption" if request.captions else "template")
        if (policy == "caption") != bool(request.captions):
            raise GenlossError(
                f"--prompts {policy} words {'captions' if policy == 'caption' else 'classes'}; give such."
            )
        if not (request.classes or request.captions):
            raise GenlossError(
                "The pipeline draws what it is told; give --classes names.txt or --captions captions.jsonl."
            )
        subjects = prompts.classes(request.classes) if request.classes else prompts.captions(request.captions or "")
    elif request.prompts or request.captions:
        raise GenlossError(f"{request.pipeline} takes no prompts; leave --prompts and --captions out.")
    elif maker.takes == "label":
        subjects = _told(request, maker)
    elif request.classes or request.per_class is not None:
        raise GenlossError(
            f"{request.pipeline} takes no classes; leave --classes and --per-class out, and give --count."
        )
    elif request.count is None:
        raise GenlossError(f"{request.pipeline} is told nothing; say with --count how many images it is to make.")
    else:
        subjects = (Subject("", "", ()),)
    if request.count is not None and request.per_class is not None:
        raise GenlossError("--count and --per-class both say how many images there are to be; give one of them.")
    for name, said in (("--count", request.count), ("--per-class", request.per_class)):
        if said is not None and said < 1:
            raise GenlossError(f"{name} is {said} and must be at least 1.")
    count = request.count or len(subjects) * (request.per_class or 1)
    return Items(subjects, count, request.seed, policy)


def _told(request: Request, maker: Pipeline | StoredRun) -> tuple[Subject, ...]:
    """The classes of a request to a model that is told labels, with the label it has for each."""
    labels, names = maker.labels or 0, maker.names
    if request.classes:
        asked = prompts.classes(request.classes)
    elif isinstance(maker, Pipeline):
        raise GenlossError(f"{request.pipeline} draws classes; say which with --classes names.txt.")
    else:
        own = sorted(names, key=names.__getitem__) if names else [str(label) for label in range(labels)]
        asked = tuple(Subject(prompts.escaped(name), prompts.escaped(name), (name,), i) for i, name in enumerate(own))
    subjects = []
    for subject in asked:
        if why := unfit_path(subject.folder):
            raise GenlossError(f"A class of {request.pipeline} is {subject.folder!a}, a name that {why}; rename it.")
        told = subject.label or 0
        if names is not None:
            known = [name for name in (*subject.names, subject.folder) if name in names]
            if not known:
                raise GenlossError(unknown(subject.names[0], list(names), f"{request.pipeline} has no class"))
            told = names[known[0]]
        if told >= labels:
            raise GenlossError(
                f"{request.pipeline} has {labels} labels, from 0, and {subject.names[0]} is {told}; leave it out with "
                "--classes."
            )
        subjects.append(subject._replace(told=told))
    return tuple(subjects)
