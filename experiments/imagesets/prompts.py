"""What a synthetic data set is to hold: its items, and the prompt and seed of each."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from experiments.imagesets.names import escaped, unfit_path
from simulator.types import GenlossError

Policy = Literal["template", "combinatorial", "caption"]
MOST = 10**8  # images of a set
TEMPLATE = "photo of {}"  # Hataya et al., arXiv:2211.08095
# As many as theirs, 11 x 4 x 5, in words of our own.
VIEWS = (
    "a photo of", "a close-up of", "a snapshot of", "a wide shot of", "a detailed picture of", "an old photograph of",
    "an amateur photo of", "a professional photo of", "a black-and-white photo of", "a colourful picture of",
    "a blurred photo of",
)  # fmt: skip
KINDS = ("the", "a small", "a large", "a typical")
PLACES = ("", ", indoors", ", outdoors", ", in bright daylight", ", at dusk")
TEMPLATES = tuple(f"{view} {kind} {{}}{place}" for view in VIEWS for kind in KINDS for place in PLACES)  # 220


class Subject(NamedTuple):
    """A class, a caption, or, where nothing is told, the one subject of all items."""

    id: str
    folder: str  # of its images; "" where they are numbered through
    names: tuple[str, ...]  # of a class: its name and synonyms; of a caption: the caption
    label: int | None = None  # of a class: its number in the data set
    told: int | None = None  # the label that a class-conditional model has for it


class Item(NamedTuple):
    """One image."""

    id: str  # what its seed is derived from
    file: str
    subject: Subject
    prompt: str | None
    seed: int


@dataclass(frozen=True)
class Items:
    """`count` items, spread evenly over the subjects, those of one subject side by side.

    Seed and prompt depend on (run seed, item id) alone: not on the number of items, nor on the order of subjects.
    """

    subjects: tuple[Subject, ...]
    count: int
    seed: int
    policy: Policy | None  # None: no prompts

    def __post_init__(self) -> None:
        if self.count > MOST:
            raise GenlossError(f"{self.count:,} images are more than the {MOST:,} of a set; make several.")
        if self.count < len(self.subjects):
            raise GenlossError(
                f"{self.count} images do not cover {len(self.subjects)} {'classes' if self.labelled else 'captions'}; "
                f"make at least {max(1, len(self.subjects))}."
            )

    def __len__(self) -> int:
        return self.count

    @property
    def labelled(self) -> bool:
        return self.subjects[0].folder != ""

    def start(self, s: int) -> int:
        """The first item of subject s."""
        each, more = divmod(self.count, len(self.subjects))  # the first have one more
        return s * each + min(s, more)

    def __getitem__(self, i: int) -> Item:
        if not 0 <= i < self.count:
            raise IndexError(i)
        each, more = divmod(self.count, len(self.subjects))
        cut = more * (each + 1)
        s = i // (each + 1) if i < cut else more + (i - cut) // each
        subject, k = self.subjects[s], i - self.start(s)
        name = f"{subject.id}/{k}"
        file = f"{subject.folder}/{k:05d}.png" if subject.folder else f"{i:07d}.png"
        prompt = None if self.policy is None else worded(self.policy, subject.names, number(self.seed, name, "prompt"))
        return Item(name, file, subject, prompt, number(self.seed, name))

    def found(self, images: Path) -> Iterator[int]:
        """The items whose file is there."""
        for s, subject in enumerate(self.subjects if self.labelled else self.subjects[:1]):
            start, end = self.start(s), self.start(s + 1) if self.labelled else self.count
            digits = 5 if self.labelled else 7
            with contextlib.suppress(FileNotFoundError), os.scandir(images / subject.folder) as files:
                for file in files:
                    k = int(stem) if (stem := file.name.removesuffix(".png")).isdecimal() else end
                    if start + k < end and file.name == f"{k:0{digits}d}.png" and file.is_file(follow_symlinks=False):
                        yield start + k

    @property
    def digest(self) -> str:
        """Checksum of all subjects."""
        total = hashlib.blake2b(digest_size=16)
        for subject in self.subjects:
            total.update(json.dumps(subject).encode())
        return total.hexdigest()


def number(*of: object) -> int:
    """A whole number in [0, 2^63) that is a checksum of what is given."""
    text = "\0".join(map(str, of)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1


def worded(policy: Policy, names: Sequence[str], chance: int) -> str:
    """The prompt of a subject; `chance`, uniform on a large range, chooses template and synonym."""
    if policy == "caption":
        return names[0]
    if policy == "template":
        return TEMPLATE.format(names[0])
    chance, t = divmod(chance, len(TEMPLATES))
    return TEMPLATES[t].format(names[chance % len(names)])


def classes(file: str) -> tuple[Subject, ...]:
    """The classes of a text file, one a line: `name, synonym, ...`, or `folder<TAB>name, synonym, ...`.

    The label of a class is the number of its line, from 0; its folder is its name where none is given.
    """
    found: dict[str, Subject] = {}
    for i, line in enumerate(_lines(file, "classes"), 1):
        if not line.strip():
            raise GenlossError(f"Line {i} of {file} is empty; a class's label is its line's number, so remove it.")
        folder, tab, said = line.partition("\t")
        names = tuple(name.strip() for name in (said if tab else line).split(","))
        folder = escaped(folder.strip() if tab else names[0])
        if not all(names):
            raise GenlossError(f"Line {i} of {file} has an empty name; write one name, or more with commas between.")
        if why := unfit_path(folder):
            raise GenlossError(
                f"Line {i} of {file}: {folder!a} cannot name a folder, for it {why}; give one, before a tab."
            )
        if folder in found:
            raise GenlossError(f"Line {i} of {file} is a second '{folder}'; give each its folder, before a tab.")
        found[folder] = Subject(folder, folder, names, i - 1)
    if not found:
        raise GenlossError(f"There are no classes in {file}; write one name a line.")
    return tuple(found.values())


def captions(file: str) -> tuple[Subject, ...]:
    """The captions of a JSONL file: `{"caption": ..., "id": ...}` a line; the id is the line's number if left out."""
    found: dict[str, Subject] = {}
    for i, line in enumerate(_lines(file, "captions"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        said = row.get("caption") if isinstance(row, dict) else None
        if not isinstance(row, dict) or not isinstance(said, str) or not said.strip():
            raise GenlossError(f'Line {i} of {file} is no caption; write {{"caption": "..."}} in each line.')
        name = row.get("id", i)
        if isinstance(name, bool) or not isinstance(name, str | int):
            raise GenlossError(f"Line {i} of {file} has an id that is neither text nor a whole number; give it one.")
        name = str(name)
        if not _is_text(said) or not _is_text(name):
            raise GenlossError(f"Line {i} of {file} holds half a character (a lone surrogate); write it in UTF-8.")
        if name in found:
            raise GenlossError(f"Line {i} of {file} has the id {name} of a line before; give every caption its own.")
        found[name] = Subject(name, "", (said,))
    if not found:
        raise GenlossError(f'There are no captions in {file}; write {{"caption": "..."}} in each line.')
    return tuple(found.values())


def _is_text(said: str) -> bool:
    return said.encode(errors="replace").decode() == said


def _lines(file: str, what: str) -> list[str]:
    try:
        text = Path(file).read_text(encoding="utf-8-sig").rstrip("\n")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it, or its name, is no text in UTF-8"
        raise GenlossError(f"The {what} in {file} cannot be read ({reason}); give a text file.") from None
    return text.split("\n") if text else []  # not `splitlines`: a caption may hold other separators
