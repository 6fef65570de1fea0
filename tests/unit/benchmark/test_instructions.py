"""Instructions per operation: the table, and what happens without valgrind."""

import json
from pathlib import Path

import pytest

from tests.benchmark import instructions
from tests.benchmark.guard.measure import Count, GuardError
from tests.benchmark.guard.workloads import WORKLOADS


def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every workload takes a million instructions; the names that were counted."""
    names: list[str] = []

    def count(name: str, **_: object) -> Count:
        names.append(name)
        return Count(1_000_000, 0.0, {"python": "3.13.0 (GCC 1)"})

    monkeypatch.setattr(instructions, "count", count)
    monkeypatch.setattr(instructions, "build_native", lambda folder: folder / "native.so")
    return names


def test_counts_are_written_per_operation(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = counted(monkeypatch)
    assert instructions.main(["--output", str(tmp_path)]) == 0
    assert names == list(WORKLOADS)
    figure = json.loads((tmp_path / "instructions.json").read_text())["figures"]["ping-pong"]
    assert figure == {"operations": 1000, "instructions": 1_000_000, "per_operation": 1000.0}
    text = (tmp_path / "instructions.md").read_text()
    assert text == capsys.readouterr().out
    assert text.startswith("Python 3.13.0 (GCC 1), both ends in one process")
    assert "| ping-pong | 64 B there and back on one stream | 1,000 | round trip |" in text


def test_quick_mode_counts_the_short_ones(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    names = counted(monkeypatch)
    assert instructions.main(["--output", str(tmp_path), "--quick"]) == 0
    assert names == list(instructions.QUICK)


def test_without_valgrind_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    counted(monkeypatch)

    def count(*_: object, **__: object) -> Count:
        raise GuardError("valgrind is not installed: apt install valgrind")

    monkeypatch.setattr(instructions, "count", count)
    assert instructions.main(["--output", str(tmp_path)]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == (
        "valgrind is not installed: apt install valgrind"
    )
    assert not (tmp_path / "instructions.md").exists()
