"""Data sets made by pipelines of diffusers and by stored runs: the same bytes whoever makes them, none missing."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import MISSING, ROOT
from PIL import Image

from experiments.cli import main
from experiments.imagesets import prompts, synthesize
from experiments.imagesets.images import open_set
from experiments.imagesets.job import Job, Request
from experiments.imagesets.prompts import Items, Subject
from experiments.imagesets.stored import StoredRun
from generators.hub.pipeline import Pipeline
from generators.vae import VAE
from simulator import Chain, Dataset, run

CLASSES = "cat, kitty\ndog\nn03\ttable, desk\n"
CAPTIONS = "".join(
    json.dumps({"caption": said, "id": i}) + "\n" for i, said in ((7, "a cat\u2028sits"), (9, "two dogs"))
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pipelines of each kind, where torch is, a run that makes images, a list of classes and one of captions."""
    root = tmp_path_factory.mktemp("makers")
    if "torch" not in MISSING:
        import torch
        from tiny_pipelines import build

        torch.set_num_threads(1)
        build(root)
    model = VAE(classes=10, steps=10, chunk=10, batch=32, hidden=(24,), latent=4)
    chain = Chain(source=Dataset.digits(), generator=model, real=100, rows=10, held_out=0)
    run(chain, jax.random.key(0), 1, root / "run", replicates=2)
    (root / "names.txt").write_text(CLASSES)
    (root / "digits.txt").write_text("one, 1\nseven, 7\n")
    (root / "captions.jsonl").write_text(CAPTIONS, encoding="utf-8")
    return root


CASES: dict[str, list[str]] = {
    "classes": ["--pipeline", "stable", "--classes", "names.txt", "--per-class", "3", "--steps", "2"],
    "captions": ["--pipeline", "stable", "--captions", "captions.jsonl", "--count", "5", "--steps", "2"],
    "labels": ["--pipeline", "noisy", "--classes", "names.txt", "--count", "7", "--steps", "2", "--guidance", "3"],
    "nothing": ["--pipeline", "plain", "--count", "7", "--steps", "2"],
    "a run": ["--pipeline", "run", "--classes", "digits.txt", "--per-class", "4", "--replicate", "1"],
}


def marked(commands: dict[str, Any]) -> list[Any]:
    """Names of commands as parameters; those that open a pipeline are marked as in need of torch."""
    opens = ("stable", "noisy", "plain", "dit", "pickled", "strange")
    needs = lambda command: any(f"'{name}" in str(command) or f" {name}" in str(command) for name in opens)  # noqa: E731
    return [pytest.param(n, marks=[pytest.mark.torch] * needs(command)) for n, command in commands.items()]


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENLOSS_CACHE", "off")
    monkeypatch.setattr("warnings.showwarning", None)


@pytest.fixture
def make(made: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    monkeypatch.chdir(made)
    return lambda out, *words: main(["synthesize", *words, "--out", str(out)])


def tree(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "manifest.jsonl").read_text(encoding="utf-8").split("\n")[:-1]]


@pytest.mark.parametrize("case", marked(CASES))
def test_all_that_is_asked_for_is_made_once(case: str, make: Callable[..., int], tmp_path: Path):
    assert make(tmp_path / "out", *CASES[case]) == 0
    manifest = rows(tmp_path / "out")
    count = {"classes": 9, "captions": 5, "labels": 7, "nothing": 7, "a run": 8}[case]
    assert len(manifest) == count == len({row["id"] for row in manifest}) == len({row["seed"] for row in manifest})
    assert {row["file"] for row in manifest} == {f for f in tree(tmp_path / "out") if f.endswith(".png")}
    pictures = {(tmp_path / "out" / row["file"]).read_bytes() for row in manifest}
    assert len(pictures) == count  # every image its own noise
    covered = Counter(row["class"] or row["caption"] for row in manifest)
    wanted: dict[str, list[Any]] = {
        "classes": ["cat", "dog", "table"], "captions": ["a cat\u2028sits", "two dogs"],
        "labels": ["cat", "dog", "table"], "nothing": [None], "a run": ["one", "seven"],
    }  # fmt: skip
    assert list(covered) == wanted[case] and max(covered.values()) - min(covered.values()) <= 1
    assert [row["label"] for row in manifest if row["class"]] == [
        list(covered).index(r["class"]) for r in manifest if r["class"]
    ]
    for row in manifest:
        assert row["checkpoint"] and row["versions"]["genloss"] and row["pipeline_path"] == CASES[case][1]
        assert case == "a run" or (row["steps"], row["sampler"][-9:]) == (2, "Scheduler")
    assert not list((tmp_path / "out").rglob(".*"))


@pytest.mark.parametrize("case", marked(CASES))
def test_strict_bytes_are_those_of_any_shards_and_batch(case: str, make: Callable[..., int], tmp_path: Path):
    assert make(tmp_path / "one", *CASES[case], "--strict", "--format", "both") == 0
    for i, batch in ((3, 2), (1, 1), (2, 5)):
        assert not (tmp_path / "many" / "manifest.jsonl").exists()
        more = ("--strict", "--format", "both", "--shard", f"{i}/3", "--batch", str(batch))
        assert make(tmp_path / "many", *CASES[case], *more) == 0
    assert tree(tmp_path / "one") == tree(tmp_path / "many")
    assert open_set(tmp_path / "one").root == tmp_path / "one" / "parquet"  # of two copies, one is read


@pytest.mark.parametrize("case", marked(CASES))
def test_an_interrupted_folder_goes_on_to_the_same_bytes(
    case: str, make: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    maker = StoredRun if case == "a run" else Pipeline
    draw, calls = maker.draw, []

    def some(self: Any, told: Any, seeds: Any) -> Any:
        calls.append(len(seeds))
        if len(calls) % 3 == 2:
            raise KeyboardInterrupt
        return draw(self, told, seeds)

    more = ("--format", "parquet", "--batch", "2")
    assert make(tmp_path / "whole", *CASES[case], *more) == 0
    monkeypatch.setattr(maker, "draw", some)
    while make(tmp_path / "cut", *CASES[case], *more) == 130:
        assert not (tmp_path / "cut" / "manifest.jsonl").exists()
    count = len(rows(tmp_path / "whole"))
    assert len(calls) - len(calls[1::3]) == -(-count // 2) and len(calls[1::3]) > 0  # each batch was made once
    assert tree(tmp_path / "cut") == tree(tmp_path / "whole")


@pytest.mark.torch
def test_images_that_are_there_are_kept_and_one_that_is_lost_comes_back(
    make: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    assert make(tmp_path, *CASES["nothing"], "--batch", "4") == 0
    before, times = tree(tmp_path), {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.png")}
    drawn = []
    draw = Pipeline.draw
    monkeypatch.setattr(Pipeline, "draw", lambda self, told, seeds: drawn.append(len(seeds)) or draw(self, told, seeds))
    assert make(tmp_path, *CASES["nothing"], "--batch", "4") == 0 and not drawn
    (tmp_path / "0000005.png").unlink()
    del times[tmp_path / "0000005.png"]
    assert make(tmp_path, *CASES["nothing"], "--batch", "4") == 0 and drawn == [3]  # its whole batch, to the bit
    assert tree(tmp_path) == before and all(file.stat().st_mtime_ns == at for file, at in times.items())


@pytest.mark.parametrize("step", ["write_parquet", "write_manifest"])
def test_killed_while_the_manifest_is_written(
    step: str, make: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    more = (*CASES["a run"], "--format", "both")
    assert make(tmp_path / "whole", *more) == 0
    with monkeypatch.context() as patched:

        def stop(*_: Any, **__: Any) -> None:
            raise KeyboardInterrupt

        patched.setattr(synthesize, step, stop)
        assert make(tmp_path / "cut", *more) == 130
    (tmp_path / "cut" / ".manifest.jsonl.part").write_text("{")
    assert make(tmp_path / "cut", *more) == 0
    assert tree(tmp_path / "cut") == tree(tmp_path / "whole")


def opened(made: Path, name: str) -> Any:
    from diffusers import DiffusionPipeline  # pyright: ignore[reportPrivateImportUsage]

    pipe = DiffusionPipeline.from_pretrained(made / name)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.mark.torch
@pytest.mark.parametrize("name", ["stable", "dit", "plain"])
def test_an_image_is_the_pipelines_own(name: str, made: Path, make: Callable[..., int], tmp_path: Path):
    import torch

    case = {"stable": "classes", "dit": "labels", "plain": "nothing"}[name]
    words = [name if word == "noisy" else word for word in CASES[case]]
    assert make(tmp_path, *words, "--strict") == 0
    pipe = opened(made, name)
    for row in rows(tmp_path)[::3]:
        told = {"stable": {"prompt": row["prompt"]}, "dit": {"class_labels": [row["label"]]}, "plain": {}}[name]
        told |= {"guidance_scale": 3.0} if name == "dit" else {}
        generator = torch.Generator().manual_seed(row["seed"])
        image = pipe(**told, generator=generator, num_inference_steps=2).images[0]
        assert np.array_equal(np.asarray(image), np.asarray(Image.open(tmp_path / row["file"])))


@pytest.mark.torch
@pytest.mark.parametrize("sampler", ["ddim", "DDIMScheduler"])
def test_another_sampler(sampler: str, made: Path, make: Callable[..., int], tmp_path: Path):
    import torch
    from diffusers import DDIMScheduler  # pyright: ignore[reportPrivateImportUsage]

    assert make(tmp_path / "own", *CASES["nothing"], "--strict") == 0
    assert make(tmp_path / "other", *CASES["nothing"], "--strict", "--sampler", sampler) == 0
    pipe = opened(made, "plain")
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    for own, row in zip(rows(tmp_path / "own"), rows(tmp_path / "other"), strict=True):
        assert row["sampler"] == "DDIMScheduler" and row["seed"] == own["seed"]
        image = pipe(generator=torch.Generator().manual_seed(row["seed"]), num_inference_steps=2).images[0]
        shown = np.asarray(Image.open(tmp_path / "other" / row["file"]))
        assert np.array_equal(np.asarray(image), shown)
        assert not np.array_equal(shown, np.asarray(Image.open(tmp_path / "own" / own["file"])))


@pytest.mark.torch
@pytest.mark.parametrize("name, told, guidance", [("noisy", 3, None), ("noisy", 3, 1.0), ("stable", "a cat", 2.0)])
def test_noise_of_an_image_is_its_own_in_any_company(name: str, told: Any, guidance: float | None, made: Path):
    """DiTPipeline does not hand the generators to its sampler: the noise of its steps would come from one stream."""
    maker = Pipeline(path=str(made / name), steps=3, guidance=guidance)
    alone = maker.draw([told], [11])[0].astype(int)
    other = maker.draw([told], [12])[0].astype(int)
    for company in ([11, 12, 13], [13, 11], [14, 12, 13, 11]):
        beside = maker.draw([told] * len(company), company)[company.index(11)].astype(int)
        assert np.abs(beside - alone).max() <= 1  # a level, where kernels add up in another order
    assert np.abs(other - alone).max() > 10


@pytest.mark.torch
def test_a_label_is_what_the_model_has_for_the_name(made: Path, tmp_path: Path, make: Callable[..., int]):
    assert make(tmp_path / "run", *CASES["a run"], "--seed", "3") == 0
    maker = StoredRun(path=str(made / "run"), replicate=1)
    model, params = maker._model, maker._params
    for row in rows(tmp_path / "run"):
        label = {"one": 1, "seven": 7}[row["class"]]
        words = jnp.array([row["seed"] >> 32, row["seed"] & 0xFFFFFFFF], jnp.uint32)
        key, _ = jax.random.split(jax.random.wrap_key_data(words))
        sure = {**params, "labels": jax.nn.one_hot(label, 10)}
        image = jax.jit(lambda key, sure: model.sample(key, sure, 1))(key, sure)["image"][0, ..., 0]
        assert np.abs(np.asarray(Image.open(tmp_path / "run" / row["file"]), int) - np.asarray(image, int)).max() <= 1
    assert (
        maker.about["generation"] == 0
        and maker.about["checkpoint"] != StoredRun(path=str(made / "run")).about["checkpoint"]
    )
    # Of a pipeline that names its labels, the name counts and not the line.
    shutil.copytree(made / "dit", tmp_path / "named")
    index = json.loads((tmp_path / "named" / "model_index.json").read_text())
    index["id2label"] = {"4": "table, desk", "17": "dog", "30": "kitty"}
    (tmp_path / "named" / "model_index.json").write_text(json.dumps(index))
    job = Job.of(Request(pipeline=str(tmp_path / "named"), out="out", classes=str(made / "names.txt")))
    assert [subject.told for subject in job.items.subjects] == [30, 17, 4]
    assert [subject.label for subject in job.items.subjects] == [0, 1, 2]


def test_without_a_list_a_run_makes_its_own_classes(make: Callable[..., int], tmp_path: Path):
    assert make(tmp_path, "--pipeline", "run", "--count", "12") == 0
    assert Counter(row["class"] for row in rows(tmp_path)) == Counter("012345678901")


@pytest.mark.torch
def test_datasets_and_our_own_reader_read_them(
    make: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    import datasets

    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    for case, column in (("classes", "label"), ("captions", "caption")):
        out = tmp_path / case
        assert make(out, *CASES[case], "--format", "both") == 0
        manifest = rows(out)
        for part in ("parquet", "folder"):
            read = datasets.load_dataset(str(out / part), split="train")
            stored = [np.asarray(Image.open(out / "folder" / row["file"])) for row in manifest]
            assert all(np.array_equal(a, b) for a, b in zip(read["image"], stored, strict=True))
            assert list(read[column]) == [row[column] for row in manifest]
        read = datasets.load_dataset(str(out / "parquet"), split="train")
        assert case == "captions" or read.features["label"].names == ["cat", "dog", "n03"]
        for part in ("parquet", "folder"):
            found = open_set(out / part).items(lambda *trouble: pytest.fail(str(trouble)))
            assert {(i.label, i.name) for i in found} == {
                (r["file"].rpartition("/")[0], Path(r["file"]).name) for r in manifest
            }


def test_seed_and_prompt_depend_on_the_item_alone():
    subjects = tuple(Subject(name, name, (name, name.upper())) for name in "abcdefg")
    items = Items(subjects, 700, 5, "combinatorial")
    fewer = {(i.id, i.seed, i.prompt) for i in (Items(subjects[::-1], 20, 5, "combinatorial")[k] for k in range(20))}
    assert fewer <= {(i.id, i.seed, i.prompt) for i in map(items.__getitem__, range(700))}
    assert (
        len({items[i].seed for i in range(700)} | {Items(subjects, 700, 6, None)[i].seed for i in range(700)}) == 1400
    )
    assert all(0 <= items[i].seed < 2**63 for i in range(700))
    assert [items.start(s) for s in range(8)] == list(range(0, 800, 100))
    uneven = Items(subjects, 17, 0, None)
    assert Counter(uneven[i].subject.id for i in range(17)) == dict(zip("abcdefg", [3, 3, 3, 2, 2, 2, 2], strict=True))
    assert [uneven.start(uneven.subjects.index(uneven[i].subject)) + int(uneven[i].id[2:]) for i in range(17)] == list(
        range(17)
    )


def test_how_prompts_are_worded():
    assert prompts.worded("template", ("tabby cat", "moggy"), 12345) == "photo of tabby cat"
    assert prompts.worded("caption", ("two {} dogs",), 12345) == "two {} dogs"
    assert len(set(prompts.TEMPLATES)) == 11 * 4 * 5
    subject = Subject("a", "a", ("cat", "moggy", "puss"))
    items = Items((subject,), 6600, 0, "combinatorial")
    said = Counter(items[i].prompt for i in range(6600))
    every = {template.format(name) for template in prompts.TEMPLATES for name in subject.names}
    assert set(said) <= every and len(every) == 660
    # Uniform on all: a chi-square with 659 degrees of freedom, 5 standard deviations of it.
    chi = sum((said[prompt] - 10) ** 2 / 10 for prompt in every)
    assert abs(chi - 659) < 5 * (2 * 659) ** 0.5


BAD: dict[str, tuple[str, str]] = {
    "no pipeline": ("--count 3 --out o", "Say what makes the images"),
    "no such pipeline": ("--pipeline nowhere --count 3 --out o", "There is no pipeline at nowhere"),
    "no folder of diffusers": ("--pipeline empty --count 3 --out o", "no model_index.json"),
    "a pickle": ("--pipeline pickled --count 3 --out o", "read from safetensors"),
    "a class nobody knows": ("--pipeline strange --count 3 --out o", "does not have; update it"),
    "no folder": ("--pipeline plain --count 3", "--out DIR"),
    "no classes": ("--pipeline stable --out o", "--classes names.txt or --captions"),
    "no list": ("--pipeline stable --classes nowhere.txt --out o", "cannot be read (No such file"),
    "empty list": ("--pipeline stable --classes none --out o", "There are no classes"),
    "the same class": ("--pipeline stable --classes twice --out o", "Line 3 of twice is a second 'cat'"),
    "an empty line": ("--pipeline stable --classes gap --out o", "Line 2 of gap is empty"),
    "a hidden folder": ("--pipeline stable --classes dots --out o", "'..' cannot name a folder"),
    "empty captions": ("--pipeline stable --captions none --out o", "There are no captions"),
    "no JSON": ("--pipeline stable --captions bad.jsonl --out o", "Line 2 of bad.jsonl is no caption"),
    "no caption": ("--pipeline stable --captions other.jsonl --out o", "Line 1 of other.jsonl is no caption"),
    "the same id": ("--pipeline stable --captions same.jsonl --out o", "Line 2 of same.jsonl has the id 4"),
    "both": ("--pipeline stable --captions captions.jsonl --classes names.txt --out o", "give one of them"),
    "prompts of nothing": ("--pipeline stable --prompts caption --classes names.txt --out o", "words captions"),
    "captions by template": ("--pipeline stable --prompts template --captions captions.jsonl --out o", "words classes"),
    "prompts for labels": ("--pipeline dit --classes names.txt --prompts template --out o", "takes no prompts"),
    "a label too many": ("--pipeline dit --classes many --out o", "is 1000; leave it out"),
    "labels without a list": ("--pipeline dit --out o", "draws classes"),
    "classes for nothing": ("--pipeline plain --classes names.txt --out o", "takes no classes"),
    "no count": ("--pipeline plain --out o", "how many images"),
    "none": ("--pipeline plain --count 0 --out o", "--count is 0"),
    "fewer than classes": ("--pipeline stable --classes names.txt --count 2 --out o", "do not cover 3 classes"),
    "two counts": ("--pipeline stable --classes names.txt --count 9 --per-class 3 --out o", "give one of them"),
    "guidance of nothing": ("--pipeline plain --count 3 --guidance 2 --out o", "has no guidance_scale"),
    "no steps": ("--pipeline plain --count 3 --steps 0 --out o", "0 steps makes nothing"),
    "negative guidance": ("--pipeline stable --classes names.txt --guidance -1 --out o", "at least 0"),
    "no such sampler": ("--pipeline plain --count 3 --sampler dim --out o", "nearest is 'ddim'"),
    "a sampler for a run": ("--pipeline run --sampler ddim --out o", "leave it out"),
    "no batch": ("--pipeline plain --count 3 --batch 0 --out o", "--batch is 0"),
    "no workers": ("--pipeline plain --count 3 --workers 0 --out o", "--workers is 0"),
    "shard beyond": ("--pipeline plain --count 3 --shard 3/2 --out o", "it was given '3/2'"),
    "shard from 0": ("--pipeline plain --count 3 --shard 0/2 --out o", "it was given '0/2'"),
    "a generation of no run": ("--pipeline plain --count 3 --generation 1 --out o", "is no run"),
    "a type for a run": ("--pipeline run --dtype float16 --out o", "leave it out"),
    "no such generation": ("--pipeline run --generation 4 --out o", "it has: 0"),
    "no such replicate": ("--pipeline run --replicate 4 --out o", "there are 0 to 1"),
    "steps of a VAE": ("--pipeline run --steps 4 --out o", "has no steps; leave it out"),
    "another class": ("--pipeline run --classes names.txt --out o", "has no class 'cat'"),
    "a file": ("--pipeline plain --count 3 --out names.txt", "is a file"),
    "other files": ("--pipeline plain --count 3 --out plain", "holds other files"),
}  # fmt: skip


@pytest.mark.parametrize("case", marked(BAD))
def test_bad_input_is_one_sentence_and_exit_code_2(
    case: str, made: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(made)
    files = {
        "none": "", "twice": "cat\ndog\ncat\n", "gap": "cat\n\ndog\n", "dots": "..\n",
        "many": "\n".join(map(str, range(1001))),
        "bad.jsonl": '{"caption": "a"}\n{"caption\n', "other.jsonl": '{"text": "a"}\n',
        "same.jsonl": '{"caption": "a", "id": 4}\n{"caption": "b", "id": 4}\n',
    }  # fmt: skip
    for name, text in files.items():
        Path(name).write_text(text)
    Path("empty").mkdir(exist_ok=True)
    Path("strange").mkdir(exist_ok=True)
    Path("strange/model_index.json").write_text('{"_class_name": "NoSuchPipeline"}')
    if Path("plain").exists() and not Path("pickled").exists():
        shutil.copytree("plain", "pickled")
        weights = Path("pickled/unet/diffusion_pytorch_model.safetensors")
        weights.rename(weights.with_suffix(".bin"))
    before = set(Path().rglob("*"))
    words, sentence = BAD[case]
    assert main(["synthesize", *words.split()]) == 2
    said = capsys.readouterr().err.strip()
    assert said.startswith("genloss: ") and sentence in said and said.endswith(".")
    assert len(said.splitlines()) == 1 and "Traceback" not in said
    assert set(Path().rglob("*")) == before


@pytest.mark.torch
@pytest.mark.parametrize("more", [["--seed", "1"], ["--steps", "3"], ["--batch", "3"], ["--strict"], ["--count", "8"]])
def test_another_configuration_in_the_same_folder_is_refused(
    more: list[str], make: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    words = ["--pipeline", "plain", "--count", "4", "--steps", "1"]
    assert make(tmp_path, *words) == 0
    before = tree(tmp_path)
    assert make(tmp_path, *words, *more) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert f"holds another set ({more[0].strip('-')} is" in said and tree(tmp_path) == before


def test_a_part_is_made_by_one_process_at_a_time(make: Callable[..., int], tmp_path: Path):
    words = [*CASES["a run"], "--shard", "1/2"]
    with synthesize.held(tmp_path, synthesize.PART.format(1, 2)):
        assert make(tmp_path, *words) == 2
        assert make(tmp_path, *CASES["a run"], "--shard", "1/3") == 2  # which holds images of both
        assert make(tmp_path, *CASES["a run"], "--shard", "2/2") == 0
    assert make(tmp_path, *words) == 0


KILLED = """
import os, random, signal, sys, time, warnings
warnings.simplefilter("ignore")
import torch
torch.set_num_threads(1)
import diffusers, transformers, experiments.imagesets.synthesize
from diffusers import StableDiffusionPipeline
from experiments.cli import main

chance, words = random.Random(0), sys.argv[2:]

def started(out):
    child = os.fork()
    if child == 0:
        os._exit(main(["synthesize", *words, "--out", out]))
    return child

def done(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

begun = time.monotonic()
assert done(started(sys.argv[1] + "/whole")) == 0
length, kills, folder = time.monotonic() - begun, 0, 0
while kills < 30:
    out = f"{sys.argv[1]}/{folder}"
    folder += 1
    for _ in range(3):
        child = started(out)
        time.sleep(chance.uniform(0.05, 0.6) * length)
        os.kill(child, signal.SIGKILL)
        if done(child) == 0:  # it had ended before
            break
        kills += 1
    assert done(started(out)) == 0
print(folder)
"""


@pytest.mark.torch
@pytest.mark.slow
def test_thirty_kills(made: Path, tmp_path: Path):
    words = [*CASES["classes"], "--batch", "2", "--format", "both", "--cache", "off"]
    words[words.index("--per-class") + 1] = "30"
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path), *words], cwd=made, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    folders = int(done.stdout.split()[-1])
    whole = tree(tmp_path / "whole")
    assert len(whole) == 90 + 3
    assert all(tree(tmp_path / str(folder)) == whole for folder in range(folders))


@pytest.mark.slow
@pytest.mark.parametrize("case", marked({name: CASES[name] for name in ("classes", "a run")}))
def test_processes_side_by_side(case: str, made: Path, make: Callable[..., int], tmp_path: Path):
    """Also where the command is killed: its workers die with it."""
    words = [*CASES[case], "--strict"]
    words[words.index("--per-class") + 1] = "40"
    assert make(tmp_path / "one", *words) == 0
    assert make(tmp_path / "two", *words, "--workers", "2") == 0
    assert tree(tmp_path / "one") == tree(tmp_path / "two")
    assert make(tmp_path / "three", *words, "--engine", "local", "--jobs", "3") == 0
    assert tree(tmp_path / "one") == tree(tmp_path / "three")
    command = [sys.executable, "-m", "experiments.cli", "synthesize", *words, "--out", str(tmp_path / "cut")]
    more = {"cwd": made, "env": {**os.environ, "PYTHONPATH": str(ROOT)}}
    running = subprocess.Popen([*command, "--workers", "3"], **more)
    while not list((tmp_path / "cut").rglob("*.png")):
        assert running.poll() is None
        time.sleep(0.02)
    running.kill()
    running.wait()
    time.sleep(0.5)
    there = tree(tmp_path / "cut")
    time.sleep(1)
    assert tree(tmp_path / "cut") == there and "manifest.jsonl" not in there
    assert make(tmp_path / "cut", *words, "--workers", "2") == 0
    assert tree(tmp_path / "cut") == tree(tmp_path / "one")
