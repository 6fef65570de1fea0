"""The command: parsing, judging and printing, and what is read from callgrind's files."""

from __future__ import annotations

from pathlib import Path

import pytest

from . import __main__ as guard
from . import measure
from .measure import GuardError, instructions_of, median_of
from .record import Figure, Records, compare

THEN = {"upload": Figure(16, 1000), "streams": Figure(2000, 1000)}
HERE = {"python": "3.11.7", "libraries": "libngtcp2.so.16.2.9"}


def status_and_words(**instructions: int) -> tuple[int, str]:
    now = {name: Figure(THEN[name].operations, count) for name, count in instructions.items()}
    status, words = guard.judge(compare(now, THEN))
    return status, "\n".join(words)


def test_total_is_read() -> None:
    assert instructions_of("events: Ir\nfn=(1) f\n1 2\n\ntotals: 184248042\n") == 184_248_042


@pytest.mark.parametrize("text", ["events: Ir\n", "summary: 0\n\ntotals: 0\n"])
def test_file_without_a_count_is_refused(text: str) -> None:
    with pytest.raises(GuardError, match="no count"):
        instructions_of(text)


def test_median_and_spread() -> None:
    assert median_of([100, 104, 99]) == (100, 0.05)
    assert median_of([7]) == (7, 0.0)


def test_missing_valgrind_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(GuardError, match="apt install valgrind"):
        measure.valgrind_version()


def test_missing_compiler_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CC", str(tmp_path / "no-such-compiler"))
    with pytest.raises(GuardError, match="no C compiler"):
        measure.build_native(tmp_path)


def test_within_the_tolerance_nothing_is_said() -> None:
    assert status_and_words(upload=1049, streams=951) == (0, "")


def test_worse_fails_and_names_the_workload() -> None:
    status, words = status_and_words(upload=1051, streams=1000)
    assert status == 1
    assert "WORSE by more than 5%: upload" in words
    assert "streams" not in words


def test_better_passes_and_asks_for_a_record() -> None:
    status, words = status_and_words(upload=900, streams=1000)
    assert status == 0
    assert "better by more than 5%: upload; record it with make bench-guard-record" in words


def test_worse_counts_more_than_better() -> None:
    status, words = status_and_words(upload=900, streams=1100)
    assert status == 1
    assert "better" in words
    assert "WORSE" in words


def test_unknown_workload_is_no_success() -> None:
    status, words = guard.judge(compare({"upload": Figure(16, 1)}, {}))
    assert status == 2
    assert words == [
        "NOT COMPARED: upload: no record of the same work; record it with make bench-guard-record"
    ]


def test_table_has_total_cost_and_change() -> None:
    (comparison,) = compare({"upload": Figure(16, 1600)}, {"upload": Figure(16, 1000)})
    line = guard.line_of(comparison, 0.012)
    assert line.split() == [
        *("upload", "1,600", "100/MiB", "1,000", "+60.0%", "worse", "(spread", "1.2%)")
    ]


def test_missing_record_is_explained() -> None:
    records = Records()
    assert guard.explain_missing(records, "p", HERE) == ["No record for p (recorded: none)."]
    records.store("p", {**HERE, "python": "3.11.2"}, THEN)
    explained = "\n".join(guard.explain_missing(records, "p", HERE))
    assert "python: 3.11.2 -> 3.11.7" in explained
    assert "libraries" not in explained.replace("these libraries", "")


def test_arguments_are_checked(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, complaint in [
        (["uplaod"], "no workload 'uplaod'; there are upload, download"),
        (["--repetitions", "0"], "must be >= 1, got 0"),
        (["--profile", "nothing"], "invalid choice"),
    ]:
        with pytest.raises(SystemExit):
            guard.parse_arguments(arguments)
        assert complaint in capsys.readouterr().err


def test_profile_counts_one_workload_once() -> None:
    parsed = guard.parse_arguments(["--profile", "streams"])
    assert (parsed.workload, parsed.repetitions) == (["streams"], 1)
