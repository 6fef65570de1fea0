"""Order, selection and robustness of the benchmark runner."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.benchmark import runner
from tests.benchmark.__main__ import main
from tests.benchmark.processes import Failure, Measurement
from tests.benchmark.runner import Plan, known, runs


def plan(output: Path = Path(), **fields: Any) -> Plan:
    defaults: dict[str, Any] = {
        "scenarios": ("upload", "download", "upload-loss-1"),
        "libraries": ("ours", "aioquic"),
        "loops": ("asyncio", "uvloop"),
        "repetitions": 3,
        "quick": True,
        "extras": (),
    }
    return Plan(output=output, **{**defaults, **fields})


def test_every_line_is_measured_as_often_as_asked() -> None:
    counts = Counter((r.scenario.name, r.library, r.loop, r.congestion) for r in runs(plan()))
    assert set(counts.values()) == {3}
    assert len([one for one in counts if one[0] == "upload"]) == 4


def test_libraries_take_turns_and_each_repetition_begins_with_another() -> None:
    order = [
        (r.repetition, r.library)
        for r in runs(plan(scenarios=("upload",), loops=("asyncio",), repetitions=2))
    ]
    assert order == [(0, "ours"), (0, "aioquic"), (1, "aioquic"), (1, "ours")]


def test_a_repetition_has_all_scenarios_of_a_group_before_the_next_begins() -> None:
    names = [
        r.scenario.name for r in runs(plan(libraries=("ours",), loops=("asyncio",), repetitions=2))
    ]
    assert names[:4] == ["upload", "download", "upload", "download"]


def test_paths_with_loss_are_measured_with_every_congestion_control() -> None:
    lossy = [r for r in runs(plan(repetitions=1)) if r.scenario.path is not None]
    assert [(r.library, r.loop, r.congestion) for r in lossy] == [
        ("ours", "asyncio", "bbr"),
        ("ours", "asyncio", "cubic"),
        ("aioquic", "asyncio", "reno"),
    ]


def test_what_a_library_leaves_out_is_not_measured() -> None:
    both = plan(scenarios=("ping-pong", "streams"), libraries=("ours", "webtransport-py"))
    found = {(r.scenario.name, r.library) for r in runs(both)}
    assert found == {
        ("ping-pong", "ours"),
        ("streams", "ours"),
        ("streams", "webtransport-py"),
    }


def test_a_scenario_that_every_library_leaves_out_is_not_measured() -> None:
    assert not list(runs(plan(scenarios=("upload",), libraries=("webtransport-py",))))


def test_known_names_come_in_the_order_of_the_choices() -> None:
    assert known(["c", "a"], ["a", "b", "c"], "letter") == ("a", "c")
    assert known([], ["a", "b"], "letter") == ("a", "b")
    with pytest.raises(SystemExit, match="no letter 'z'; there are: a, b"):
        known(["z"], ["a", "b"], "letter")


def test_command_line_refuses_unknown_names_and_bad_numbers(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit, match="no library 'none'"):
        main(["--library", "none"])
    with pytest.raises(SystemExit, match="2"):
        main(["--repetitions", "0"])
    assert "must be at least 1, got 0" in capsys.readouterr().err


def test_command_line_lists_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    output = capsys.readouterr().out
    assert "ping-pong" in output
    assert "aiopquic==0.6.1" in output


def answers(
    monkeypatch: pytest.MonkeyPatch, measured: list[BaseException | dict[str, Any]]
) -> None:
    """Let measurements end like this, one after the other."""
    remaining = iter(measured)

    def measure(*_: Any) -> dict[str, Any]:
        answer = next(remaining)
        if isinstance(answer, BaseException):
            raise answer
        return {"version": "1", "python": "3", "figures": answer}

    monkeypatch.setattr(runner, "measure", measure)


def small(output: Path) -> Plan:
    return plan(output, scenarios=("upload",), libraries=("ours",), loops=("asyncio",), here=True)


def test_a_failure_does_not_stop_the_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    answers(monkeypatch, [{"rate": 1.0}, Failure("it hangs"), {"rate": 2.0}])
    results = runner.run(small(tmp_path), print)
    assert [one.get("error") for one in results.cells] == [None, "it hangs", None]
    assert results.complete


def test_an_interruption_keeps_what_was_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answers(monkeypatch, [{"rate": 1.0}, KeyboardInterrupt()])
    results = runner.run(small(tmp_path), print)
    assert len(results.cells) == 1
    assert not results.complete
    assert "interrupted" in capsys.readouterr().out


def test_a_library_without_environment_is_reported(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def prepare(_: str) -> str:
        raise FileNotFoundError("no Python 3.13")

    monkeypatch.setattr(runner, "prepare", prepare)
    answers(monkeypatch, [{"rate": 1.0}])
    both = plan(tmp_path, scenarios=("upload",), loops=("asyncio",), repetitions=1, here=True)
    results = runner.run(both, print)
    assert [one.get("error") for one in results.cells] == [None, "no Python 3.13"]


def test_a_library_without_a_wheel_is_left_out_with_the_words_of_pip(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def prepare(_: str) -> str:
        raise RuntimeError("pip ended with 1:\nLooking\nERROR: No matching distribution found\n")

    monkeypatch.setattr(runner, "prepare", prepare)
    answers(monkeypatch, [{"rate": 1.0}])
    both = plan(tmp_path, scenarios=("upload",), loops=("asyncio",), repetitions=1, here=True)
    results = runner.run(both, print)
    errors = [one.get("error") for one in results.cells]
    assert errors == [None, "ERROR: No matching distribution found"]
    assert "aioquic cannot be measured: ERROR: No matching" in capsys.readouterr().out


def test_a_server_is_measured_with_the_client_of_another_library(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    measured: list[Measurement] = []

    def measure(measurement: Measurement, _: object) -> dict[str, Any]:
        measured.append(measurement)
        return {"version": "1", "python": "3", "figures": {"rate": 1.0}}

    monkeypatch.setattr(runner, "measure", measure)
    monkeypatch.setattr(runner, "prepare", lambda name: f"/venv/{name}")
    libraries = ("aioquic", "peregrine-server")
    chosen = plan(
        tmp_path,
        scenarios=("download-loss-1",),
        libraries=libraries,
        loops=("asyncio",),
        repetitions=1,
    )
    runner.run(chosen, print)
    ends = {one.library: (one.end("server"), one.end("client")) for one in measured}
    same = ("aioquic", "/venv/aioquic", "reno")
    assert ends["aioquic"] == (same, same)
    assert ends["peregrine-server"] == (
        ("peregrine-server", "/venv/peregrine-server", "default"),
        ("ours", "/venv/ours", ""),
    )


def test_a_server_whose_client_cannot_be_prepared_is_reported(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def prepare(name: str) -> str:
        if name == "ours":
            raise RuntimeError("error: no compiler")
        return f"/venv/{name}"

    monkeypatch.setattr(runner, "prepare", prepare)
    chosen = plan(
        tmp_path,
        scenarios=("upload",),
        libraries=("peregrine-server",),
        loops=("asyncio",),
        repetitions=1,
    )
    results = runner.run(chosen, print)
    assert [one["error"] for one in results.cells] == ["error: no compiler"]
