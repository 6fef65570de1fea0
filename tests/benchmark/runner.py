"""Runs the measurements: which, in which order, and what becomes of those that fail."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from pywebtransport.utils import certificate_hash, generate_self_signed_cert

from .libraries import LIBRARIES, OURS, prepare, reason
from .machine import describe
from .processes import Certificate, Failure, Measurement, measure
from .scenarios import EXTRAS, GROUPS, SCENARIOS, Scenario

__all__ = ["Plan", "Results", "Run", "known", "run", "runs"]

ROOT = Path(__file__).resolve().parents[2]
# Seconds that processes take to start and to end, to foretell how long all of it takes.
_OVERHEAD = 0.8
_EXTRA_LIMIT = 600.0


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to run."""

    scenarios: tuple[str, ...]
    libraries: tuple[str, ...]
    loops: tuple[str, ...]
    repetitions: int
    quick: bool
    extras: tuple[str, ...]
    output: Path
    # This project as it is here, with the interpreter that runs this, and not its virtualenv.
    here: bool = False
    # Microseconds, of this project.
    busy_poll: int = 0


@dataclass(frozen=True, kw_only=True)
class Run:
    """One measurement of the plan."""

    scenario: Scenario
    library: str
    loop: str
    congestion: str
    repetition: int

    @property
    def title(self) -> str:
        """For the progress bar."""
        detail = " ".join(filter(None, (self.loop, self.congestion)))
        return f"{self.scenario.name}: {self.library} ({detail})"

    def estimate(self, quick: bool) -> float:
        """About how many seconds it takes."""
        job = self.scenario.job_for(quick)
        idle = 2 * job.get("settle", 0.0) + job.get("count", 0) / 500
        seconds: float = _OVERHEAD + job["seconds"] + job["warmup"] + idle
        return seconds


@dataclass(kw_only=True)
class Results:
    """What has been measured so far."""

    settings: dict[str, Any]
    machine: dict[str, Any]
    libraries: dict[str, dict[str, Any]] = field(default_factory=dict)
    cells: list[dict[str, Any]] = field(default_factory=list)
    # Why each of them failed, or "".
    extras: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    complete: bool = False


def runs(plan: Plan) -> Iterator[Run]:
    """Every measurement, in order.

    Libraries take turns within a scenario, and scenarios within a repetition of their group, so
    that a machine that becomes slower or faster does so for all. Every repetition begins with
    another library.
    """
    for group in GROUPS:
        chosen = [SCENARIOS[name] for name in plan.scenarios if SCENARIOS[name].group == group]
        for repetition in range(plan.repetitions):
            for scenario in chosen:
                lines = list(_lines(plan, scenario))
                turn = repetition % len(lines) if lines else 0
                for library, loop, congestion in [*lines[turn:], *lines[:turn]]:
                    yield Run(
                        scenario=scenario,
                        library=library,
                        loop=loop,
                        congestion=congestion,
                        repetition=repetition,
                    )


def _lines(plan: Plan, scenario: Scenario) -> Iterator[tuple[str, str, str]]:
    loops = plan.loops if scenario.loops else plan.loops[:1]
    for loop in loops:
        for library in plan.libraries:
            if scenario.name in LIBRARIES[library].left_out:
                continue
            # Where nothing is lost the default of each library is as good as its others.
            choices = LIBRARIES[library].congestion if scenario.path is not None else ("",)
            for congestion in choices:
                yield library, loop, congestion


class _Remaining(ProgressColumn):
    """About how long it will still take."""

    def render(self, task: Task) -> Text:
        left = max(0.0, task.fields["estimate"] - task.fields["done"])
        return Text(
            f"about {int(left) // 60}:{int(left) % 60:02d} to go", style="progress.remaining"
        )


def run(plan: Plan, say: Callable[[str], None]) -> Results:
    """Measure everything; Ctrl-C ends it with what there is by then.

    Args:
        plan: What to run.
        say: Prints a line without disturbing the progress bar.
    """
    results = Results(
        settings={
            "quick": plan.quick,
            "repetitions": plan.repetitions,
            "scenarios": list(plan.scenarios),
            "loops": list(plan.loops),
            "busy_poll": plan.busy_poll,
        },
        machine=describe(),
    )
    started = time.monotonic()
    try:
        with _progress() as progress:
            bar = progress.add_task("virtualenvs", total=None, estimate=0.0, done=0.0)
            pythons = _prepare(plan, results, progress.console.print)
            certificate = _certificate(plan.output / "certificate")
            todo = list(runs(plan))
            estimate = sum(one.estimate(plan.quick) for one in todo)
            extras = {name: EXTRAS[name].seconds[plan.quick] for name in plan.extras}
            estimate += sum(extras.values())
            total = len(todo) + len(extras)
            progress.update(bar, total=total, estimate=estimate)
            for one in todo:
                progress.update(bar, description=one.title)
                results.cells.append(_cell(one, plan, pythons, certificate, results))
                if "error" in results.cells[-1]:
                    progress.console.print(f"{one.title}: {results.cells[-1]['error']}")
                done = progress.tasks[0].fields["done"] + one.estimate(plan.quick)
                progress.update(bar, advance=1, done=done)
            for name, seconds in extras.items():
                progress.update(bar, description=name)
                results.extras[name] = _extra(name, plan)
                done = progress.tasks[0].fields["done"] + seconds
                progress.update(bar, advance=1, done=done)
        results.complete = True
    except KeyboardInterrupt:
        say("interrupted: the report shows what was measured so far")
    results.seconds = time.monotonic() - started
    return results


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        _Remaining(),
        # Drawing takes time from what is measured.
        refresh_per_second=1,
    )


def _prepare(plan: Plan, results: Results, say: Callable[[str], None]) -> dict[str, str]:
    """The interpreters of the libraries that can be measured."""
    pythons = {}
    failed = {}
    clients = (LIBRARIES[name].client for name in plan.libraries)
    for name in dict.fromkeys((*plan.libraries, *filter(None, clients))):
        try:
            pythons[name] = sys.executable if plan.here and name == OURS else prepare(name)
        except (FileNotFoundError, RuntimeError) as error:
            failed[name] = reason(error)
    for name in plan.libraries:
        results.libraries[name] = {"title": LIBRARIES[name].title}
        why = failed.get(name) or failed.get(LIBRARIES[name].client)
        if why is not None:
            results.libraries[name]["error"] = why
            say(f"{name} cannot be measured: {why}")
    return pythons


def _certificate(folder: Path) -> Certificate:
    """A P-256 certificate for two weeks."""
    folder.mkdir(parents=True, exist_ok=True)
    certfile, keyfile = generate_self_signed_cert(hostname="localhost", output_dir=str(folder))
    digest = certificate_hash(certfile).hex()
    return Certificate(certfile=certfile, keyfile=keyfile, hash=digest)


def _cell(
    one: Run, plan: Plan, pythons: dict[str, str], certificate: Certificate, results: Results
) -> dict[str, Any]:
    """Measure once; what fails says so."""
    scenario = one.scenario
    cell: dict[str, Any] = {
        "scenario": scenario.name,
        "library": one.library,
        "loop": one.loop,
        "congestion": one.congestion,
        "repetition": one.repetition,
    }
    known = results.libraries[one.library]
    if "error" in known:
        return {**cell, "error": known["error"]}
    client = LIBRARIES[one.library].client
    measurement = Measurement(
        library=one.library,
        python=pythons[one.library],
        client=client,
        client_python=pythons.get(client, ""),
        loop=one.loop,
        congestion=one.congestion,
        job=scenario.job_for(plan.quick),
        limit=scenario.limit,
        path=scenario.path,
        pythonpath=str(ROOT) if plan.here else "",
        busy_poll=plan.busy_poll,
        # The same losses for all libraries, others in every repetition.
        seed=random.Random(f"{scenario.name} {one.repetition}").getrandbits(32),
    )
    try:
        answer = measure(measurement, certificate)
    except Failure as error:
        return {**cell, "error": str(error)}
    known |= {"version": answer["version"], "python": answer["python"]}
    if "relay" in answer:
        cell["relay"] = answer["relay"]
    return {**cell, "figures": answer["figures"]}


def _extra(name: str, plan: Plan) -> str:
    """Run a program that writes its own files; why it failed, or ""."""
    command = [sys.executable, "-m", f"tests.benchmark.{name}", "--output", str(plan.output)]
    command += ["--quick"] if plan.quick else []
    try:
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=_EXTRA_LIMIT, check=False
        )
    except subprocess.TimeoutExpired:
        return f"not complete after {_EXTRA_LIMIT:g} s"
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        return lines[-1] if lines else f"exit code {done.returncode}"
    return ""


def known(names: Iterable[str], choices: Iterable[str], what: str) -> tuple[str, ...]:
    """The names that were asked for, in the order of the choices; all of them when none were.

    Raises:
        SystemExit: A name is not one of the choices.
    """
    allowed, asked = list(choices), list(names)
    for name in asked:
        if name not in allowed:
            raise SystemExit(f"no {what} {name!r}; there are: {', '.join(allowed)}")
    return tuple(name for name in allowed if not asked or name in asked)
