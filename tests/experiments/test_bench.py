"""What the benchmarks make of their timings."""

import pytest

from experiments.bench import exact


def test_a_table_of_speed_is_markdown_and_counts_all_seeds(capsys: pytest.CaptureFixture[str]):
    rows = [exact.Row("a", plain=0.5, seeds=100, running=0.1, compiling=0.4), exact.Row("b", 0.02, 1, 0.004, 0.0)]
    exact.report(lambda: rows[:1], lambda: rows[1:])
    lines = [line.split("|") for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line[1:-1]] for line in lines]
    assert cells[0] == [
        "job", "NumPy, s a seed", "seeds", "compile s", "run s", "times faster once compiled", "with compiling"
    ]  # fmt: skip
    assert {cell.strip("-") for cell in cells[1]} == {""}
    assert cells[2:] == [
        ["a", "0.5", "100", "0.4", "0.10", "500", "100"],
        ["b", "0.02", "1", "0.0", "0.00", "5.00", "5.00"],
    ]
