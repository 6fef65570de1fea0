"""Build ``core.c`` and measure it: medians over repetitions, each with fresh processes."""

from __future__ import annotations

import json
import statistics
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

__all__ = ["SCENARIOS", "CoreFigures", "CoreScenario", "build", "measure", "table"]

HERE = Path(__file__).resolve().parent
TIME_LIMIT = 60.0
MIB = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class CoreScenario:
    """One workload of ``core.c``: the server's mode, and bytes or operations."""

    name: str
    mode: str
    count: int

    @property
    def bulk(self) -> bool:
        """Whether the count is of bytes."""
        return self.name in ("upload", "download")


@dataclass(frozen=True, kw_only=True, slots=True)
class CoreFigures:
    """One repetition: MiB/s or operations per second; microseconds where one is in flight."""

    rate: float
    p50: float | None = None
    p99: float | None = None


# Named as in the suite. A bulk count is of bytes.
SCENARIOS = (
    CoreScenario(name="upload", mode="sink", count=512 * MIB),
    CoreScenario(name="download", mode="source", count=512 * MIB),
    CoreScenario(name="ping-pong", mode="echo", count=20_000),
    CoreScenario(name="streams", mode="echo", count=20_000),
    CoreScenario(name="streams-100", mode="echo", count=200_000),
    CoreScenario(name="datagram-echo", mode="echo", count=20_000),
    CoreScenario(name="datagrams", mode="sink", count=500_000),
    CoreScenario(name="connect", mode="sink", count=1_000),
    CoreScenario(name="connect-50", mode="sink", count=2_000),
)
_ARGUMENT = {"streams": "streams-1", "connect": "connect-1"}


def build() -> Path:
    """Compile the program if its sources changed.

    Raises:
        subprocess.CalledProcessError: It does not compile; ``stderr`` says why.
    """
    subprocess.run(
        ["make", "--silent", "-C", str(HERE)], check=True, capture_output=True, text=True
    )
    return HERE.parents[2] / "build" / "benchmark-core" / "core"


def measure(
    program: Path,
    certfile: str,
    keyfile: str,
    *,
    repetitions: int = 3,
    scale: float = 1.0,
    progress: Callable[[str], object] = lambda _: None,
) -> dict[str, list[CoreFigures]]:
    """Measure every scenario ``repetitions`` times in turn.

    Args:
        program: From ``build``.
        certfile: PEM certificate of the server.
        keyfile: Its key.
        repetitions: How often.
        scale: Of all counts, for a quick look.
        progress: Told the name of each scenario when it starts.

    Raises:
        subprocess.CalledProcessError: A run failed, or a count was wrong at the other end.
        subprocess.TimeoutExpired: One took more than a minute.
    """
    figures: dict[str, list[CoreFigures]] = {scenario.name: [] for scenario in SCENARIOS}
    for _ in range(repetitions):
        for scenario in SCENARIOS:
            progress(scenario.name)
            count = max(int(scenario.count * scale), 100)
            with _server(program, certfile, keyfile, scenario.mode) as port:
                argument = _ARGUMENT.get(scenario.name, scenario.name)
                done = subprocess.run(
                    [str(program), "client", str(port), argument, str(count)],
                    check=True,
                    capture_output=True,
                    text=True,
                    timeout=TIME_LIMIT,
                )
            figures[scenario.name].append(_parse(scenario, done.stdout))
    return figures


def table(figures: dict[str, list[CoreFigures]]) -> str:
    """Medians with minimum and maximum, as a Markdown table."""
    lines = ["| scenario | rate | p50, us | p99, us |", "|---|---|---|---|"]
    for scenario in SCENARIOS:
        values = figures[scenario.name]
        unit = "MiB/s" if scenario.bulk else "/s"
        rate = f"{_range([one.rate for one in values])} {unit}"
        times = [
            _range([value for one in values if (value := getattr(one, name)) is not None])
            for name in ("p50", "p99")
        ]
        lines.append(f"| {scenario.name} | {rate} | {times[0]} | {times[1]} |")
    return "\n".join(lines) + "\n"


def _range(values: list[float]) -> str:
    if not values:
        return ""
    low, middle, high = (f(values) for f in (min, statistics.median, max))
    return f"{middle:,.0f} ({low:,.0f} to {high:,.0f})"


def _parse(scenario: CoreScenario, text: str) -> CoreFigures:
    result = json.loads(text)
    done = result.get("acknowledged", result["count"]) / (MIB if scenario.bulk else 1)
    return CoreFigures(
        rate=done / result["seconds"], p50=result.get("p50_us"), p99=result.get("p99_us")
    )


@contextmanager
def _server(program: Path, certfile: str, keyfile: str, mode: str) -> Iterator[int]:
    command = [str(program), "server", certfile, keyfile, mode]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stdin is not None
            assert server.stdout is not None
            yield int(server.stdout.readline())
            server.stdin.close()
            server.wait(TIME_LIMIT)
        except BaseException:
            server.kill()
            raise
