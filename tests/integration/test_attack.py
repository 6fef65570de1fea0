"""``make attack`` works: real attackers, victims and canaries, and limits that fail."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.attack.__main__ import main
from tests.attack.registry import chosen, load
from tests.attack.report import markdown
from tests.attack.runner import Plan, Result, Stage, judge, run
from tests.field.child import ROOT, ChildError
from tests.field.proc import cpu_seconds, descriptors, proportional, resident

# Limits that no machine is too slow for.
GENEROUS = {"ratio": 1e9, "memory": 1e6}


def plan(folder: Path, **fields: float) -> Plan:
    """One second of everything."""
    return Plan.of(1.0, package=ROOT, folder=folder, **{**GENEROUS, **fields})


@pytest.mark.parametrize("name", ["unknown-capsules-empty", "quic-pings", "server-control-grease"])
def test_an_attack_is_measured(tmp_path: Path, name: str) -> None:
    (attack,) = chosen([name])
    result = run(attack, plan(tmp_path))
    # What other programs do to the figures is not to be judged here.
    allowed = ("failed", "not judged")
    assert [fault for fault in result.faults if not any(word in fault for word in allowed)] == []
    for window in (result.quiet, result.control, result.during, result.after):
        assert window["echoes"] > 0
        assert 0 < window["p50"] <= window["p99"] <= window["max"]
    assert result.ratio is not None
    assert result.ratio > 0
    assert result.attacker["sent"] > 10_000
    assert 0 < result.memory["before"] <= result.memory["peak"]
    assert result.cpu["during"] > 0


@pytest.mark.parametrize(
    ("weak", "words"),
    [
        ({"ratio": 1e-9, "floor": 0.0}, ("times as long", "not judged")),
        ({"memory": -1e6}, ("grew by",)),
    ],
)
def test_a_limit_that_is_passed_fails(
    tmp_path: Path, weak: dict[str, float], words: tuple[str, ...]
) -> None:
    (attack,) = chosen(["plain-requests"])
    result = run(attack, plan(tmp_path, control=0.0, **weak))
    assert any(word in fault for fault in result.faults for word in words)
    assert not result.is_fine


def test_a_victim_that_ended_fails(tmp_path: Path) -> None:
    (attack,) = chosen(["plain-requests"])
    with Stage.open(attack, plan(tmp_path)) as stage:
        victim = stage.server("victim")
        assert resident(victim.pid) > proportional(victim.pid) / 2 > 0
        assert descriptors(victim.pid) > 3
        assert cpu_seconds(victim.pid) > 0
        victim.kill()
        result = Result(name="x", group="x", doc="x")
        judge(stage.plan, attack, victim, result)
        assert result.faults == ["the server ended with -9"]
        with pytest.raises(ChildError, match="the victim has ended"):
            victim.ask("figures")


def test_the_command_writes_a_report_and_tells_by_its_status(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["versions", "--seconds", "0.5", "--no-control", "--output", str(tmp_path)]
    assert main([*arguments, "--ratio", "1e-9", "--floor", "0"]) == 1
    assert "1 attacks, 1 failed: versions" in capsys.readouterr().out
    found = json.loads((tmp_path / "attack.json").read_text())
    assert [one["name"] for one in found["results"]] == ["versions"]
    assert markdown(found).count("| first packets of a version that there is not |") == 1


def test_attacks_and_groups_are_found_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    attacks = load()
    assert chosen([]) == list(attacks.values())
    assert {one.group for one in chosen(["capsules", "versions"])} == {"capsules", "handshakes"}
    with pytest.raises(SystemExit):
        main(["no-such-attack"])
    assert "no attack or group is called 'no-such-attack'" in capsys.readouterr().err
    assert all(one.doc for one in attacks.values())
