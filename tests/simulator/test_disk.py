"""What is written: whole or not at all, never through a link, and one sentence where it cannot be."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import SHARED

from experiments.cli import main
from experiments.command import reproduce
from simulator import GenlossError, RunFailed, Store, disk

PLACES: dict[str, Callable[[Path], str]] = {
    "a file": lambda at: str(touched(at / "file")),
    "below a file": lambda at: str(touched(at / "file") / "below"),
    "a name too long": lambda at: str(at / "made" / ("n" * 300)),
    "a path too long": lambda at: str(at) + "/n" * 3000,
    "no name": lambda at: str(at / "a\0b"),
    "/proc": lambda at: "/proc/genloss/out",
    "a link to nothing": lambda at: str(linked(at / "link", at / "nowhere")),
}


def touched(file: Path) -> Path:
    file.write_text("mine")
    return file


def linked(link: Path, target: Path) -> Path:
    link.symlink_to(target)
    return link


def tree(folder: Path) -> dict[str, bytes | None]:
    """All that lies below a folder, with the contents of files."""
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_a_place_that_cannot_be_written_is_one_sentence_and_leaves_nothing(
    place: Callable[[Path], str], tmp_path: Path
):
    path = place(tmp_path)
    before = tree(tmp_path)
    for ask in (disk.folder, lambda p: disk.new_folder(p).__enter__(), lambda p: disk.locked(p).__enter__()):
        with pytest.raises(GenlossError, match=r"^[^\n]*; choose [^\n]*\.$"):
            ask(path)
        assert tree(tmp_path) == before


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
@pytest.mark.parametrize("command", ["run tiny_gaussian.py --out", "reproduce kazdan_gaussian --out"])
def test_commands_find_out_before_any_work(
    command: str, place: Callable[[Path], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    name, what, out = command.split()
    what = str(SHARED / what) if what.endswith(".py") else what
    path = place(tmp_path)
    before = tree(tmp_path)
    assert main([name, what, out, path, "--cache", "off"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "; choose" in said and tree(tmp_path) == before


def test_a_file_is_there_whole_or_not_at_all(tmp_path: Path):
    disk.write(tmp_path, "a/b.txt", b"old")
    with pytest.raises(ZeroDivisionError), disk.opened(tmp_path, "a/b.txt") as stream:
        stream.write(b"new, cut")
        stream.flush()
        _ = 1 / 0
    assert tree(tmp_path) == {"a": None, "a/b.txt": b"old"}
    with disk.opened(tmp_path, "a/b.txt", "utf-8") as stream:
        stream.write("né")
    assert (tmp_path / "a" / "b.txt").read_bytes() == "né".encode()


def test_no_link_below_the_root_is_followed(tmp_path: Path):
    mine, root = tmp_path / "mine", tmp_path / "root"
    mine.mkdir()
    root.mkdir()
    touched(mine / "thesis.tex")
    linked(root / "samples", mine)
    linked(root / "a.txt", mine / "thesis.tex")
    linked(root / ".b.txt.part", mine / "thesis.tex")
    linked(root / ".lock", mine / "thesis.tex")
    before = tree(mine)
    with pytest.raises(GenlossError, match="links are not followed"):
        disk.write(root, "samples/0.png", b"new")
    disk.write(root, "a.txt", b"new")
    disk.write(root, "b.txt", b"new")
    with pytest.raises(GenlossError, match="links are not followed"), disk.locked(root):
        pass
    assert tree(mine) == before
    assert (root / "a.txt").read_bytes() == b"new" and not (root / "a.txt").is_symlink()
    disk.write(linked(tmp_path / "big", root), "c.txt", b"new")  # the root itself may lie on another disk
    assert (root / "c.txt").read_bytes() == b"new"


@pytest.mark.parametrize("name", ["../out", "a/../../out", "/tmp/genloss-out", "", "a\0b"])
def test_no_name_leads_out_of_the_root(name: str, tmp_path: Path):
    (tmp_path / "root").mkdir()
    with pytest.raises(GenlossError, match=r"rename|choose another"):
        disk.write(tmp_path / "root", name, b"new")
    assert tree(tmp_path) == {"root": None}


def test_a_new_folder_is_there_whole_or_not_at_all(tmp_path: Path):
    place = tmp_path / "new"
    with pytest.raises(ZeroDivisionError), disk.new_folder(place) as part:
        disk.write(part, "unet/config.json", b"{}")
        _ = 1 / 0
    assert not place.exists()
    (place / disk.PART).mkdir(parents=True)  # as a kill leaves it
    touched(place / disk.PART / "half")
    with disk.new_folder(place) as part:
        disk.write(part, "unet/config.json", b"{}")
        assert not (place / "unet").exists()
    assert tree(place) == {"unet": None, "unet/config.json": b"{}"}
    with pytest.raises(GenlossError, match=r"not empty \(it has unet\)"), disk.new_folder(place):
        pass


def _told(folder: Path) -> str:
    """What another process meets that would hold the folder."""
    code = (
        "import sys\nfrom pathlib import Path\nfrom simulator import GenlossError\nfrom simulator import disk\n"
        "try:\n    with disk.locked(Path(sys.argv[1]), 'busy'): print('held')\nexcept GenlossError: print('busy')"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_a_lock_is_seen_by_other_processes(tmp_path: Path):
    with disk.locked(tmp_path, "busy"):
        assert _told(tmp_path) == "busy"
    assert _told(tmp_path) == "held"


@pytest.mark.mount
def test_a_full_disk_is_no_bad_input_and_leaves_what_was_there(small: Path):
    disk.write(small, "a", b"old")
    with pytest.raises(RunFailed, match="the disk is full; mend that and give the same command again"):
        disk.write(small, "a", bytes(10**6))
    with pytest.raises(RunFailed, match="the disk is full"), disk.new_folder(small / "new") as part:
        disk.write(part, "b", bytes(10**6))
    assert tree(small) == {"a": b"old"}
    with pytest.raises(RunFailed, match="the disk is full"):
        Store(small / "run").write("samples/0.png", bytes(10**6))


@pytest.mark.mount
def test_a_reproduction_finds_out_that_the_disk_is_full_before_any_work(
    small: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(reproduce, "reproduce", lambda name: pytest.fail(f"{name} was run"))
    assert main(["reproduce", "suresh_poisson", "--out", str(small / "out"), "--cache", "off"]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "the disk is full" in said and tree(small) == {}
