"""What README shows is true: its script runs, its tree is the tree."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text()


def test_the_script_runs_and_agrees_with_the_law():
    found = re.search(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert found is not None
    plain = {**os.environ, "XLA_FLAGS": ""}  # optimised: thousands of chains take longer than their program
    done = subprocess.run(
        [sys.executable, "-c", found[1]], capture_output=True, text=True, check=True, cwd=ROOT, env=plain
    )
    measured, law = (np.array(re.findall(r"\d\.\d+", line), float) for line in done.stdout.strip().splitlines())
    assert np.allclose(measured[1:], law[1:], rtol=0.03)


def test_every_room_is_in_the_tree():
    tree = TEXT.split("## Files")[1]
    for room in ("simulator", "generators", "experiments"):
        for folder in (ROOT / room).iterdir():
            assert not list(folder.glob("*.py")) or f"{folder.name}/" in tree, folder
