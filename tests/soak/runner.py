"""Runs one phase: a server, a client, and samples of both."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pywebtransport.utils import certificate_hash, generate_self_signed_cert
from tests.field.child import ROOT, Child, ChildError
from tests.field.proc import cpu_seconds, descriptors, proportional, resident

from .series import QUANTITIES, Series, judge

__all__ = ["PHASES", "Phase", "run"]

HERE = Path(__file__).resolve().parent
LOSS = 0.05
LONGEST = 24 * 3600.0
_UNLIMITED = ("max_connections_per_address", "max_sessions_per_address")


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One kind of work.

    Attributes:
        name: What the client calls it.
        title: For people.
        count: Streams, sessions or datagrams at full scale.
        seconds: For phases that last a time.
        interval: Seconds between samples at full scale.
        lossy: The path loses packets.
        lost: Name of a count that must be 0.
        config: Fields of the server's configuration beside the defaults.
    """

    name: str
    title: str
    count: int = 0
    seconds: float = 0.0
    interval: float = 5.0
    lossy: bool = False
    lost: str = ""
    config: dict[str, Any]

    def scaled(self, scale: float) -> dict[str, Any]:
        """What the client is told."""
        return {
            "phase": self.name,
            "count": max(20, round(self.count * scale)),
            "seconds": max(3.0, self.seconds * scale),
            "seed": 1,
        }


_MANY = {"max_connections": 30_000, "max_sessions": 30_000}
PHASES = {
    phase.name: phase
    for phase in (
        Phase(
            name="streams",
            title="streams, half of them echoes, on 4 connections",
            count=1_000_000,
            config={},
        ),
        Phase(
            name="sessions",
            title="sessions, each on a connection of its own, with an echo",
            count=50_000,
            config={},
        ),
        Phase(
            name="datagrams",
            title="datagrams there and back on 4 connections",
            count=10_000_000,
            config={},
        ),
        Phase(
            name="churn",
            title="resets, stops, half-read streams and closed sessions at 5 % loss, seconds",
            seconds=600.0,
            lossy=True,
            config={},
        ),
        Phase(
            name="idle",
            title="idle sessions, each on a connection of its own",
            count=20_000,
            seconds=3600.0,
            interval=30.0,
            lost="lost",
            config=_MANY,
        ),
    )
}


def run(
    phase: Phase,
    scale: float,
    folder: Path,
    *,
    package: Path = ROOT,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Run one phase and judge it; a document for JSON with ``faults``."""
    certfile, keyfile = generate_self_signed_cert("localhost", str(folder))
    files = {"certfile": str(certfile), "keyfile": str(keyfile)}
    interval = max(0.25, min(phase.interval, phase.interval * scale * 10))
    series = {
        (process, quantity.name): Series(process=process, quantity=quantity.name)
        for process in ("server", "client")
        for quantity in QUANTITIES
    }
    faults: list[str] = []
    found: dict[str, Any] = {}
    cpu: dict[str, float] = {}
    began = time.monotonic()
    with ExitStack() as stack:
        server = stack.enter_context(
            Child(
                "server",
                ROOT / "tests" / "field" / "server.py",
                {**files, "config": phase.config, "unlimited": _UNLIMITED},
                log=folder / f"{phase.name}-server.log",
                package=package,
            )
        )
        port = server.ready["port"]
        if phase.lossy:
            relay = stack.enter_context(
                Child(
                    "relay",
                    "tests.soak.relay",
                    {"port": port, "loss": LOSS, "seed": 1},
                    log=folder / "relay.log",
                )
            )
            port = relay.ready["port"]
        client = stack.enter_context(
            Child(
                "client",
                HERE / "client.py",
                {**phase.scaled(scale), "port": port, "hash": certificate_hash(certfile).hex()},
                log=folder / f"{phase.name}-client.log",
                package=package,
            )
        )
        try:
            while not found.get("finished"):
                time.sleep(interval)
                now = time.monotonic() - began
                answers = {
                    "server": server.ask("figures", objects=True, timeout=120.0),
                    "client": client.ask("figures", objects=True, timeout=120.0),
                }
                found = answers["client"]
                say(_progress(phase, found, now))
                if found["finished"]:
                    break
                if phase.lost and ("held" not in found["counts"] or "checking" in found["counts"]):
                    continue  # still being set up, or asked whether all are there
                for name, child in (("server", server), ("client", client)):
                    values = {
                        "rss": resident(child.pid),
                        "pss": proportional(child.pid),
                        "descriptors": descriptors(child.pid),
                        **{key: answers[name][key] for key in ("tasks", "objects")},
                    }
                    for key, value in values.items():
                        series[name, key].points.append((round(now, 2), value))
            for name, child in (("server", server), ("client", client)):
                cpu[name] = cpu_seconds(child.pid)
        except ChildError as error:
            faults.append(str(error))
        log = server.log_lines() + client.log_lines()
        head = server.log_head() + client.log_head()
    counts = found.get("counts", {})
    counts.pop("checking", None)
    faults += [f"{count} x {what}" for what, count in counts.items() if what.startswith("fault")]
    if phase.lost and counts.get(phase.lost):
        faults.append(f"{counts[phase.lost]} sessions were lost")
    if log:
        faults.append(f"{log} lines of log")
        print(f"log, the first lines:\n{head}", file=sys.stderr)
    faults += judge(list(series.values()))
    return {
        "phase": phase.name,
        "title": phase.title,
        "scale": scale,
        "lasted": phase.scaled(scale)["seconds"] if phase.seconds else None,
        "date": time.strftime("%Y-%m-%d"),
        "seconds": round(time.monotonic() - began, 1),
        "done": found.get("done", 0),
        "wanted": found.get("wanted", 0),
        "counts": counts,
        "cpu": cpu,
        "faults": faults,
        "series": [one.to_dict() for one in series.values()],
    }


def _progress(phase: Phase, found: dict[str, Any], now: float) -> str:
    return f"{phase.name}: {found['done']:,} of {found['wanted']:,} after {now:,.0f} s"
