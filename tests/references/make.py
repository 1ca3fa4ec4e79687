"""What other libraries say, stored so that tests need none of them: each file beside this one names its command.

python tests/references/make.py schedulers denoisers inception fidelity cider language
"""

import importlib.metadata
import json
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
TESTS = HERE.parent
sys.path[:0] = [str(path) for path in (TESTS.parent, TESTS, *TESTS.iterdir()) if path.is_dir()]


def digits(values: Any) -> list[Any]:
    """Numbers to seven digits, which float32 has."""
    return [float(f"{float(value):.7g}") for value in np.asarray(values, np.float64).reshape(-1)]


def schedulers() -> tuple[Any, list[str]]:
    """Of each schedule of noise_cases: some betas and alphas_cumprod, the times of samplers, and single steps.

    What torch holds in float32 is made double before a step, since what is left of 1 - ᾱ_t/ᾱ_t' in float32 is not the
    step but its rounding.
    """
    import diffusers
    import torch
    from noise_cases import AT, CASES, ETAS, FLOWS, STEPS, inputs

    def of(kind: str, config: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for n in STEPS:
            scheduler: Any = getattr(diffusers, kind)(**config)
            if kind[:4] != "Flow":
                at = [round(share * (len(scheduler.betas) - 1)) for share in AT]
                found |= {"betas": digits(scheduler.betas[at]), "alphas_cumprod": digits(scheduler.alphas_cumprod[at])}
                scheduler.alphas_cumprod = torch.cumprod(1 - scheduler.betas.double(), 0)
                scheduler.one = torch.ones((), dtype=torch.float64)
            if kind == "DDIMScheduler":
                one = config.get("set_alpha_to_one", True)
                scheduler.final_alpha_cumprod = scheduler.one if one else scheduler.alphas_cumprod[0]
            scheduler.set_timesteps(n)
            found[f"times of {n}"] = digits(scheduler.timesteps)
            for eta in ETAS[kind]:
                for i in (0, n // 2, n - 1):
                    x, told, z = (torch.from_numpy(a) for a in inputs(i))
                    more: dict[str, Any] = {}
                    if kind == "DDPMScheduler":
                        diffusers.schedulers.scheduling_ddpm.randn_tensor = lambda *_, z=z, **__: z  # pyright: ignore
                    elif kind == "DDIMScheduler":
                        more = {"eta": eta, "variance_noise": z if eta else None}
                    scheduler._step_index = i
                    said = scheduler.step(told, scheduler.timesteps[i], x, **more).prev_sample
                    found[f"step {i} of {n}, eta {eta}"] = digits(said)
        return found

    return {name: of(kind, config) for name, (kind, config) in {**CASES, **FLOWS}.items()}, ["diffusers", "torch"]


def denoisers() -> tuple[Any, list[str]]:
    """What the models of diffusers tell of one batch by weights that hub.save wrote: see test_hub."""
    import diffusers
    import torch
    from test_hub import REFERENCES, SCHEDULE, batch, determined, told

    from generators.hub import diffusers as hub

    found = {}
    for name in REFERENCES:
        loaded = determined(name)
        network, shape, classes, params, _ = loaded
        with tempfile.TemporaryDirectory() as folder:
            hub.save(folder, network, params, shape, classes, SCHEDULE)
            part = "transformer" if (Path(folder) / "transformer").exists() else "unet"
            kind = json.loads((Path(folder) / part / "config.json").read_text())["_class_name"]
            model = getattr(diffusers, kind).from_pretrained(folder, subfolder=part).eval()
        x, t, label = batch(loaded)
        labels = None if classes is None else torch.from_numpy(label)
        with torch.no_grad():
            said = model(torch.from_numpy(x.transpose(0, 3, 1, 2)), torch.from_numpy(t), class_labels=labels).sample
        found[name] = digits(told(said.numpy().transpose(0, 2, 3, 1)[..., : x.shape[-1]]))
    return found, ["diffusers", "torch"]


def inception() -> tuple[Any, list[str]]:
    """Some features of the images of test_nets by the network in torch that stands there."""
    from test_nets import pictured, some, torch_features, weighted

    return digits(some(torch_features(weighted(), pictured().transpose(0, 3, 1, 2), 75))), ["torch"]


def fidelity() -> tuple[Any, list[str]]:
    """The distances of torchmetrics between the sets of test_fidelity."""
    from test_fidelity import torchmetrics_say

    return dict(zip(("frechet", "kid"), digits(torchmetrics_say()), strict=True)), ["torch", "torchmetrics"]


def cider() -> tuple[Any, list[str]]:
    """CIDEr of the sentences of test_paired, of each and their mean."""
    from pycocoevalcap.cider.cider import Cider  # pyright: ignore[reportMissingImports]
    from test_paired import spoken_and_right

    spoken, right = spoken_and_right()
    mean, each = Cider().compute_score(dict(enumerate(right)), {i: [text] for i, text in enumerate(spoken)})
    return {"mean": float(mean), "each": digits(each)}, ["pycocoevalcap"]


def language() -> tuple[Any, list[str]]:
    """Of each model of test_hub_transformers what transformers wrote, some logits and what is likeliest to follow."""
    import torch
    import transformers
    from safetensors.torch import load_file, save_file
    from test_hub_transformers import CONFIGS, TOKENS, theirs, told, weighted

    found = {}
    for name, (kind, config) in CONFIGS.items():
        cls = getattr(transformers, kind)
        with tempfile.TemporaryDirectory() as folder:
            model = cls(cls.config_class(**config))
            model.save_pretrained(folder)
            written = json.loads((Path(folder) / "config.json").read_text())
            file = Path(folder) / "model.safetensors"
            shapes = {name: tuple(leaf.shape) for name, leaf in load_file(file).items()}
            save_file({k: torch.from_numpy(leaf) for k, leaf in weighted(shapes).items()}, file, {"format": "pt"})
            logits, text = theirs(torch, cls.from_pretrained(folder))
        found[name] = {"config": written, "shapes": shapes, "logits": digits(told(logits))}
        found[name]["text"] = text[:, TOKENS.shape[1] :].tolist()
    return found, ["transformers", "torch"]


def version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    for name in sys.argv[1:]:
        values, packages = globals()[name]()
        content = {
            "command": f"python tests/references/make.py {name}",
            "versions": {package: version(package) for package in packages},
            "values": values,
        }
        (HERE / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")
        print(f"{name}.json: {(HERE / f'{name}.json').stat().st_size} bytes")
