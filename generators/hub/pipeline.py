"""Pipelines of diffusers as they are, in torch: text-to-image, class-conditional and unconditional (extra `torch`).

Weights are read from safetensors only, and code that comes with a model is not run.  The filter that blackens images
and the invisible watermark are off, as in Hataya et al. (arXiv:2211.08095).
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import importlib.util
import inspect
import os
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from generators.hub.layout import LIBRARIES, of_library, part
from simulator.checks.foreign import file_in, is_file, is_folder, read_json, shown
from simulator.running.spec import unknown
from simulator.types import GenlossError, RunFailed

OFF = {"safety_checker": None, "requires_safety_checker": False, "watermarker": None, "add_watermarker": False}
READ = {".safetensors", ".json", ".txt", ".model"}  # files that say what a pipeline draws
PACKAGES = ("torch", "diffusers", "transformers")
PICKLES = {".bin", ".pt", ".pth", ".ckpt", ".pkl"}
NAMES = "id2label"  # where a DiT's model_index.json keeps the names of its labels, with commas between synonyms


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """A stored pipeline, as a function of what each image is told and of its seed.

    Every image has a `torch.Generator` of its own, on the CPU, so that the noise it is made from depends on its seed
    alone, on any device.  Its bytes do too where `strict`: one image a call, one thread on a CPU, deterministic
    kernels.  Otherwise matrix products of larger batches, and of other numbers of threads, may add up in another order.
    """

    path: str  # a folder of diffusers, or a hub id
    guidance: float | None = None  # weight of classifier-free guidance; None takes the pipeline's own
    steps: int | None = None  # of the sampler; None takes the pipeline's own
    sampler: str | None = None  # a scheduler of diffusers, such as "ddim"; None takes the pipeline's own
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"  # of weights and computation
    strict: bool = False

    def __post_init__(self) -> None:
        if self.steps is not None and self.steps < 1:
            raise GenlossError(f"A sampler of {self.steps} steps makes nothing; give at least 1.")
        if self.guidance is not None and not 0 <= self.guidance < float("inf"):
            raise GenlossError(f"`guidance` is {self.guidance} and must be a number of at least 0.")
        for name, said in (("guidance_scale", self.guidance), ("num_inference_steps", self.steps)):
            if said is not None and name not in self._parameters:
                raise GenlossError(f"{self._kind.__name__} has no {name}; leave it out.")
        if self.sampler is not None:
            _ = self._sampler  # raises where there is none

    @functools.cached_property
    def takes(self) -> Literal["prompt", "label"] | None:
        """What an image is made from, beside its seed."""
        names = {"prompt": "prompt", "class_labels": "label"}
        return next((takes for name, takes in names.items() if name in self._parameters), None)  # pyright: ignore

    @functools.cached_property
    def labels(self) -> int | None:
        """How many labels the pipeline knows; None where it takes none."""
        if self.takes != "label":
            return None
        known = read_json(part(self._folder, "transformer") / "config.json").get("num_embeds_ada_norm", 1000)
        if type(known) is not int or known < 1:
            raise GenlossError(
                f"The transformer of {self.path} knows {shown(known)} labels; download its config.json again."
            )
        return known

    @functools.cached_property
    def names(self) -> Mapping[str, int] | None:
        """Label by name, where the pipeline names its labels."""
        stored = self._index.get(NAMES)
        if self.takes != "label" or not stored:
            return None
        known = isinstance(stored, dict) and all(
            label.isdecimal() and len(label) < 10 and isinstance(names, str) for label, names in stored.items()
        )
        if not known:
            raise GenlossError(f"`{NAMES}` of {self.path} does not give a name to each label; download it again.")
        return {name.strip(): int(label) for label, names in stored.items() for name in names.split(",")}

    @functools.cached_property
    def about(self) -> dict[str, Any]:
        """What a manifest says of it."""
        defaults = {name: parameter.default for name, parameter in self._parameters.items()}
        return {
            "pipeline": self.path,
            "class": self._kind.__name__,
            "checkpoint": self._checkpoint,
            "sampler": self._sampler,
            "steps": defaults.get("num_inference_steps") if self.steps is None else self.steps,
            "guidance": defaults.get("guidance_scale") if self.guidance is None else self.guidance,
            "dtype": self.dtype,
            "safety_checker": "off" if "safety_checker" in self._takes_parts else "none",
            "watermark": "off" if {"watermarker", "add_watermarker"} & self._takes_parts else "none",
            "versions": {name: version(name) for name in PACKAGES},
        }

    def draw(self, told: Sequence[Any], seeds: Sequence[int]) -> np.ndarray:
        """Images uint8 [n, h, w, c]: image i is made from told[i] (a prompt, a label, or None) and seeds[i]."""
        import torch

        n, pipe = len(seeds), self._pipe
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        given: dict[str, Any] = {"generator": generators, "output_type": "np"}
        given |= {"prompt": {"prompt": list(told)}, "label": {"class_labels": list(told)}}.get(
            self.takes or "", {"batch_size": n}
        )
        given |= {} if self.guidance is None else {"guidance_scale": self.guidance}
        given |= {} if self.steps is None else {"num_inference_steps": self.steps}
        torch.manual_seed(seeds[0])  # for samplers that take no generator: repeatable, at least one by one
        if self.takes == "label":
            _tell_the_sampler(pipe.scheduler, generators)
        try:
            images = np.asarray(pipe(**given).images)  # [n, h, w, c] in [0, 1]
        except torch.cuda.OutOfMemoryError:
            raise RunFailed(f"{n} images at once do not fit on the device; lower --batch, or give --dtype.") from None
        except (TypeError, ValueError) as error:
            raise GenlossError(f"{self._kind.__name__} cannot draw this ({_first_line(error)}).") from error
        if images.ndim != 4 or images.shape[0] != n or images.shape[-1] not in (1, 3):
            raise GenlossError(f"{self._kind.__name__} makes {list(images.shape)}, no images; choose another pipeline.")
        if not np.isfinite(images).all():
            raise RunFailed(f"{self._kind.__name__} makes values that are not finite; try another --dtype.")
        return np.round(images * 255).astype(np.uint8)

    @functools.cached_property
    def _folder(self) -> Path:
        if is_folder(self.path):
            return Path(self.path)
        if is_file(self.path):
            raise GenlossError(f"{self.path} is a file; give the folder that diffusers wrote, or a hub id owner/name.")
        if not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", self.path):
            raise GenlossError(
                f"There is no pipeline at {self.path}; give a folder of diffusers, or a hub id owner/name."
            )
        _need_torch()
        from diffusers import DiffusionPipeline  # pyright: ignore[reportPrivateImportUsage]

        try:
            return Path(DiffusionPipeline.download(self.path, use_safetensors=True, trust_remote_code=False))
        except Exception as error:
            raise GenlossError(
                f"{self.path} is no folder, and the hub does not serve it as safetensors ({_first_line(error)}); check "
                "the name and the network, or give a folder."
            ) from None

    @functools.cached_property
    def _index(self) -> dict[str, Any]:
        """What model_index.json says, once nothing in the folder is left that would be run or unpickled."""
        index = read_json(self._folder / "model_index.json")
        check_parts(self._folder, index)
        return index

    @functools.cached_property
    def _sampler(self) -> str | None:
        """The class of the scheduler that is used, of those that read the stored one's configuration."""
        own = (self._index.get("scheduler") or [None, None])[1]
        if self.sampler is None:
            return own
        import diffusers

        known = {own, *getattr(getattr(diffusers, own or "", None), "_compatibles", ())} - {None}
        named = {name.removesuffix("Scheduler").lower(): name for name in known}
        asked = self.sampler.removesuffix("Scheduler").lower()
        if asked not in named:
            raise GenlossError(unknown(asked, sorted(named), f"{self.path} has no sampler"))
        return named[asked]

    @functools.cached_property
    def _kind(self) -> Any:
        """The class of diffusers."""
        name = self._index.get("_class_name")
        _need_torch()
        import diffusers

        kind = getattr(diffusers, name, None) if isinstance(name, str) else None
        if not (isinstance(kind, type) and issubclass(kind, diffusers.DiffusionPipeline)):  # pyright: ignore
            raise GenlossError(
                f"{self.path} is a {shown(name)}, which this version of diffusers does not have; update it."
            )
        if "generator" not in inspect.signature(kind.__call__).parameters:
            raise GenlossError(f"A {name} takes no seed for each image; choose another pipeline.")
        return kind

    @property
    def _parameters(self) -> Mapping[str, inspect.Parameter]:
        return inspect.signature(self._kind.__call__).parameters

    @property
    def _takes_parts(self) -> set[str]:
        return set(inspect.signature(self._kind.__init__).parameters)

    @functools.cached_property
    def _checkpoint(self) -> str:
        """Checksum of all files that say what is drawn."""
        total = hashlib.blake2b(digest_size=16)
        for file in sorted(f for f in self._folder.rglob("*") if f.suffix in READ and f.is_file()):
            total.update(f"{file.relative_to(self._folder).as_posix()}\0{file.stat().st_size}\0".encode())
            with file.open("rb") as opened:
                while block := opened.read(2**20):
                    total.update(block)
        return total.hexdigest()

    @functools.cached_property
    def _pipe(self) -> Any:
        """The pipeline on its device."""
        import torch
        import transformers
        from diffusers.utils import logging

        if self.strict:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what cuBLAS asks for to be deterministic
            torch.use_deterministic_algorithms(True, warn_only=True)
            torch.set_num_threads(1)
        off = {name: value for name, value in OFF.items() if name in self._takes_parts}
        level = logging.get_verbosity()
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        transformers.utils.logging.disable_progress_bar()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter(
                    "ignore", FutureWarning
                )  # newer versions call it `dtype`, older know `torch_dtype`
                pipe = self._kind.from_pretrained(
                    self._folder,
                    use_safetensors=True,
                    trust_remote_code=False,
                    torch_dtype=getattr(torch, self.dtype),
                    **off,
                )
        except Exception as error:
            raise GenlossError(
                f"The pipeline in {self._folder} cannot be opened ({_first_line(error)}); weights are read from "
                "safetensors, which `save_pretrained` of diffusers writes."
            ) from None
        finally:
            logging.set_verbosity(level)
        if self.sampler is not None:
            import diffusers

            pipe.scheduler = getattr(diffusers, self._sampler or "").from_config(pipe.scheduler.config)
        pipe.set_progress_bar_config(disable=True)
        share = os.environ.get("XLA_CLIENT_MEM_FRACTION")  # what the command's --memory gives this program of a GPU
        if share and torch.cuda.is_available():
            torch.cuda.set_per_process_memory_fraction(float(share))
        return pipe.to("cuda" if torch.cuda.is_available() else "cpu")


def _tell_the_sampler(scheduler: Any, generators: list[Any]) -> None:
    """Has the steps of a sampler draw from the images' own generators.

    `DiTPipeline` does not pass them on, so that a sampler with noise would draw that of all images from one stream.
    """
    step = type(scheduler).step
    if "generator" not in inspect.signature(step).parameters:
        return

    def told(model_output: Any, *args: Any, **kwargs: Any) -> Any:
        copies = len(model_output) // len(generators)  # under guidance each image is there twice
        return step(scheduler, model_output, *args, **{"generator": generators * copies, **kwargs})

    scheduler.step = told


def _need_torch() -> None:
    # Read when the libraries are imported: what they lack that nobody asked for is not said.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    try:
        import torch  # noqa: F401
        import transformers  # noqa: F401
    except ImportError as error:
        raise GenlossError(f"Pipelines of diffusers need {error.name}; pip install 'genloss[torch]'.") from None


def check_parts(folder: Path, index: Mapping[str, Any]) -> None:
    """Raises where a part of a pipeline is missing, is pickled, or brings code: as its class, or by a configuration."""
    for name, named in index.items():
        if name.startswith("_") or name in OFF or not isinstance(named, list) or named == [None, None]:
            continue
        if not (named and isinstance(named[0], str) and _of_diffusers(named[0])):
            of_library(named, name, folder, LIBRARIES)
        place = part(folder, name)
        if name != Path(name).name or not any(place.glob("*config.json")):
            raise GenlossError(f"There is no {name} in {folder}, which its model_index.json names; download it again.")
        if code := sorted(place.glob("*.py")) if place != folder else []:
            raise GenlossError(f"{code[0]} is code that comes with a model, which is not run; choose another pipeline.")
        for file in place.glob("*config.json"):
            _check_configuration(file)
        for file in place.glob("*.safetensors.index.json"):
            named_files = read_json(file).get("weight_map")
            for weights in set(map(str, named_files.values())) if isinstance(named_files, dict) else ():
                file_in(place, weights, ".safetensors")
        suffixes = {file.suffix for file in place.iterdir()}
        if suffixes & PICKLES and ".safetensors" not in suffixes:
            raise GenlossError(
                f"The weights in {place} are a pickle, which is not opened: weights are read from safetensors, which "
                "`save_pretrained` of diffusers writes."
            )


def _of_diffusers(library: str) -> bool:
    """Whether it is one of diffusers' own folders of pipelines, some of which have classes for their parts."""
    found = importlib.util.find_spec("diffusers")
    where = Path(found.origin or "").parent / "pipelines" if found else Path()
    if not (library.isidentifier() and is_folder(where / library)):
        return False
    import diffusers.pipelines

    try:
        found = getattr(diffusers.pipelines, library, None)
    except Exception:  # what it needs is not installed
        return False
    return getattr(found, "__name__", "") == f"diffusers.pipelines.{library}"


def _check_configuration(file: Path) -> None:
    """Raises where a configuration has its reader import code: `auto_map` what is beside it, a kernel a hub id's."""
    unread: list[Any] = [read_json(file)]
    while unread:
        found = unread.pop()
        for key, value in found.items() if isinstance(found, dict) else ():
            kernel = key.strip("_") == "attn_implementation" and "/" in str(value)
            if key in ("auto_map", "custom_pipelines") or kernel:
                raise GenlossError(
                    f"{file} names code to run (`{key}`), and code that comes with a model is not run; choose another "
                    "pipeline."
                )
        unread += found.values() if isinstance(found, dict) else found if isinstance(found, list) else ()


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")[:200]


def version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
