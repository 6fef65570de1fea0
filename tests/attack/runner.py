"""Runs one attack: quiet, the same attack on a bystander, the attack; and judges what was seen."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pywebtransport.utils import certificate_hash, generate_self_signed_cert
from tests.field.child import ROOT, Child, ChildError
from tests.field.proc import Peak, cpu_seconds, resident

from .registry import Attack

__all__ = ["FLOOR", "RATIO", "Plan", "Result", "Stage", "judge", "run"]

FIELD = ROOT / "tests" / "field"
ECHO_INTERVAL = 0.01
CONNECT_INTERVAL = 0.25
# The attacker gets what the others leave of the processors: what is measured is the work that it
# makes for its victim, not that it takes the processor away.
ATTACKER_NICE = 19

RATIO = 3.0
"""How much longer than without the attack the 99th percentile of echoes may be."""
FLOOR = 0.010
"""Seconds; a percentile below it does not fail, whatever the ratio."""
NOISY = 0.1
"""Seconds; with a percentile above it without any attack, nothing can be said."""
CALM = 0.05
"""Seconds; with a quiet percentile above it the quiet measurement is made again, three times."""
LOG_LINES = 100
"""Lines that one attack may make its victim write to its log."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How long, and by what measure.

    Attributes:
        seconds: Of the attack.
        quiet: Seconds of the measurement before it.
        control: Seconds of the attack on a bystander; 0: none.
        settle: Seconds between the attack and the measurement of what stays.
        package: Directory of the checkout whose package is attacked.
        folder: For certificates and logs.
        ratio: See ``RATIO``.
        floor: See ``FLOOR``.
        memory: MiB instead of each attack's own limit; None: its own.
        say: Hears what happens.
    """

    seconds: float
    quiet: float
    control: float
    settle: float
    package: Path
    folder: Path
    ratio: float = RATIO
    floor: float = FLOOR
    memory: float | None = None
    say: Callable[[str], None] = lambda text: None

    @classmethod
    def of(cls, seconds: float, **fields: Any) -> Plan:
        """The times that go with so many seconds of attack."""
        times = {"quiet": min(3.0, seconds), "control": min(3.0, seconds), "settle": 1.0}
        return cls(seconds=seconds, **{**times, **fields})


@dataclass(kw_only=True)
class Result:
    """What was seen of one attack. Times in seconds, memory in MiB.

    Attributes:
        quiet: Figures of the canary before the attack.
        control: While the same attack went to a bystander.
        during: While it went to the victim.
        after: After it.
        memory: Of the victim: ``before``, ``peak``, ``after``.
        cpu: Share of one processor that the victim used, ``quiet`` and ``during``.
        turn: Longest turn of the victim's event loop during the attack.
        attacker: What the attacker tells: bytes sent, how its connections ended.
        log_lines: That the victim wrote during the attack.
        faults: Why it fails; empty: it is fine.
    """

    name: str
    group: str
    doc: str
    quiet: dict[str, Any] = field(default_factory=dict)
    control: dict[str, Any] = field(default_factory=dict)
    during: dict[str, Any] = field(default_factory=dict)
    after: dict[str, Any] = field(default_factory=dict)
    memory: dict[str, float] = field(default_factory=dict)
    cpu: dict[str, float] = field(default_factory=dict)
    turn: float | None = None
    attacker: dict[str, Any] = field(default_factory=dict)
    log_lines: int = 0
    faults: list[str] = field(default_factory=list)

    @property
    def is_fine(self) -> bool:
        """No fault."""
        return not self.faults

    @property
    def ratio(self) -> float | None:
        """The 99th percentile during the attack to ``base``; None where one is missing."""
        base, now = self.base, self.during.get("p99")
        return now / base if base and now else None

    @property
    def base(self) -> float | None:
        """The 99th percentile beside a bystander under attack; else the quiet one."""
        found: float | None = self.control.get("p99") or self.quiet.get("p99")
        return found

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "ratio": self.ratio}


def run(attack: Attack, plan: Plan) -> Result:
    """Run one attack in processes of its own."""
    result = Result(name=attack.name, group=attack.group, doc=attack.doc)
    try:
        with Stage.open(attack, plan) as stage:
            (_against_server if attack.victim == "server" else _against_client)(stage, result)
    except ChildError as error:
        result.faults.append(str(error))
    return result


class Stage:
    """Makes the processes of one attack, and ends them."""

    def __init__(self, attack: Attack, plan: Plan, stack: ExitStack) -> None:
        self.attack = attack
        self.plan = plan
        self._stack = stack
        plan.folder.mkdir(parents=True, exist_ok=True)
        certfile, keyfile = generate_self_signed_cert("localhost", str(plan.folder))
        self.files = {"certfile": str(certfile), "keyfile": str(keyfile)}
        self.hash = certificate_hash(certfile).hex()

    @classmethod
    @contextlib.contextmanager
    def open(cls, attack: Attack, plan: Plan) -> Iterator[Stage]:
        """A stage whose processes end with the block."""
        with ExitStack() as stack:
            yield cls(attack, plan, stack)

    def log(self, name: str) -> Path:
        """Where a process complains."""
        return self.plan.folder / f"{self.attack.name}-{name}.log"

    def server(self, name: str) -> Child:
        """A server of the package under attack."""
        options: dict[str, Any] = {**self.files, "config": self.attack.config}
        if self.attack.scrape:
            options["scrape"] = self.attack.scrape
        if self.attack.upstream:
            upstream = self._program("server.py", f"{name}-upstream", {**self.files})
            options |= {
                "upstream": f"https://127.0.0.1:{upstream.ready['port']}/hold",
                "hash": self.hash,
            }
        return self._program("server.py", name, options)

    def canary(self, name: str, port: int, **options: Any) -> Child:
        """A well-behaved client of the same package."""
        values = {
            "port": port,
            "hash": self.hash,
            "interval": ECHO_INTERVAL,
            "connect_interval": CONNECT_INTERVAL,
            **options,
        }
        return self._program("canary.py", name, values)

    @contextlib.contextmanager
    def attacker(self, port: int) -> Iterator[Child]:
        """An attacker that is prepared."""
        options = {"attack": self.attack.name, "port": port, "files": self.files}
        self.plan.say("prepares")
        child = Child(
            "attacker",
            "tests.attack.hostile",
            options,
            log=self.log("attacker"),
            nice=ATTACKER_NICE,
            patience=self.attack.prepare + 30,
        )
        with child:
            yield child

    def _program(self, file: str, name: str, options: dict[str, Any]) -> Child:
        return self._stack.enter_context(
            Child(name, FIELD / file, options, log=self.log(name), package=self.plan.package)
        )


def _against_server(stage: Stage, result: Result) -> None:
    plan, attack = stage.plan, stage.attack
    victim = stage.server("victim")
    canary = stage.canary("canary", victim.ready["port"])
    result.quiet = _measure_quiet(plan, canary, victim, result)
    if plan.control:
        bystander = stage.server("bystander")
        with stage.attacker(bystander.ready["port"]) as attacker:
            plan.say("attacks a bystander")
            attacker.tell("go")
            canary.ask("window")
            time.sleep(plan.control)
            result.control = canary.ask("window")
            attacker.kill()
        bystander.kill()
        time.sleep(0.2)
    victim.ask("figures")
    result.memory["before"] = resident(victim.pid)
    with Peak(victim.pid) as peak:
        with stage.attacker(victim.ready["port"]) as attacker:
            _attack(plan, attacker, victim, canary, result, attack)
            _end(attacker, result)
        time.sleep(plan.settle)
        # What was begun during the attack may go on long after it.
        if victim.is_running:
            with contextlib.suppress(ChildError):
                result.turn = victim.ask("figures", timeout=120.0)["longest_turn"]
    result.memory["peak"] = peak.peak
    result.memory["after"] = resident(victim.pid)
    result.after = canary.ask("window")
    judge(plan, attack, victim, result)


def _against_client(stage: Stage, result: Result) -> None:
    plan, attack = stage.plan, stage.attack
    good = stage.server("server")
    port = good.ready["port"]
    victim = stage.canary("quiet", port)
    result.quiet = _measure_quiet(plan, victim, victim, result)
    if plan.control:
        with stage.attacker(0) as attacker:
            plan.say("attacks a bystander")
            bystander = stage.canary("bystander", port, hostile=attacker.ready["port"])
            attacker.tell("go")
            victim.ask("window")
            time.sleep(plan.control)
            result.control = victim.ask("window")
            bystander.kill()
            attacker.kill()
    victim.end()
    with stage.attacker(0) as attacker:
        victim = stage.canary("victim", port, hostile=attacker.ready["port"])
        result.memory["before"] = resident(victim.pid)
        with Peak(victim.pid) as peak:
            _attack(plan, attacker, victim, victim, result, attack)
        _end(attacker, result)
        result.memory["peak"] = peak.peak
        time.sleep(plan.settle)
        result.memory["after"] = resident(victim.pid)
        if victim.is_running:
            result.after = victim.ask("window", timeout=60.0)
    result.turn = result.during.get("longest_turn")
    judge(plan, attack, victim, result)


def _measure_quiet(plan: Plan, canary: Child, victim: Child, result: Result) -> dict[str, Any]:
    plan.say("is quiet")
    time.sleep(0.3)
    canary.ask("window")
    for _ in range(4):
        begun, cpu = time.monotonic(), cpu_seconds(victim.pid)
        time.sleep(plan.quiet)
        result.cpu["quiet"] = (cpu_seconds(victim.pid) - cpu) / (time.monotonic() - begun)
        found = canary.ask("window")
        if found["p99"] is not None and found["p99"] <= CALM:
            break
    return found


def _attack(
    plan: Plan, attacker: Child, victim: Child, canary: Child, result: Result, attack: Attack
) -> None:
    plan.say("attacks")
    canary.ask("window")
    lines = victim.log_lines()
    attacker.tell("go")
    begun, cpu = time.monotonic(), cpu_seconds(victim.pid)
    time.sleep(plan.seconds)
    result.cpu["during"] = (cpu_seconds(victim.pid) - cpu) / (time.monotonic() - begun)
    if canary.is_running:
        if attack.probe:
            error = canary.ask(attack.probe, timeout=60.0)["error"]
            if error:
                result.faults.append(f"{attack.probe}: {error}")
        result.during = canary.ask("window", timeout=60.0)
    result.log_lines = victim.log_lines() - lines


def _end(attacker: Child, result: Result) -> None:
    """Stop the attacker and hear its account."""
    if not attacker.is_running:
        result.faults.append(f"the attacker ended with {attacker.returncode}")
        return
    try:
        result.attacker = attacker.ask("stop", timeout=30.0)
    except ChildError as error:
        result.faults.append(str(error))
    else:
        if result.attacker["problem"]:
            result.faults.append(f"attacker: {result.attacker['problem'][:200]}")
    attacker.kill()


def judge(plan: Plan, attack: Attack, victim: Child, result: Result) -> None:
    """Say what is wrong with a result."""
    if not victim.is_running:
        result.faults.append(f"the {attack.victim} ended with {victim.returncode}")
        return
    during, faults = result.during, result.faults
    ratio, p99 = result.ratio, during.get("p99")
    if p99 is None:
        faults.append("no echo came back")
    elif result.base is not None and result.base > NOISY:
        faults.append(f"not judged: p99 was {result.base * 1e3:.0f} ms without the attack")
    elif p99 > plan.floor and ratio is not None and ratio > plan.ratio:
        faults.append(f"echo p99 {ratio:.1f} times as long")
    for kind in ("echo", "connect"):
        if count := during.get(f"{kind}_failed"):
            faults.append(f"{count} {kind} failed")
    if not result.after.get("echoes"):
        faults.append("no echo after the attack")
    grown = result.memory["peak"] - result.memory["before"]
    limit = attack.memory if plan.memory is None else plan.memory
    if grown > limit:
        faults.append(f"grew by {grown:.0f} MiB, limit {limit:.0f}")
    if result.log_lines > LOG_LINES:
        faults.append(f"{result.log_lines} lines of log")
