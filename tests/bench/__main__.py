"""``make bench``: prints a table of every measurement, writes JSON, compares with the last run."""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import sys
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from examples.demo.process import server_process
from pywebtransport import ClientConfig, WebTransportClient, __version__

from .measurements import ALL, Target

OUTPUT = Path(__file__).resolve().parents[2] / ".make" / "bench.json"


async def measure() -> dict[str, float]:
    """Run all measurements on the running loop; return figures by name."""
    figures = {}
    async with server_process() as server:
        config = ClientConfig.create(server_certificate_hashes=[server.certificate_hash])
        async with WebTransportClient(config=config) as client:
            target = Target(url=server.url, client=client, config=config)
            for measurement in ALL:
                figures[measurement.name] = await measurement.run(target)
    return figures


def loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The event loops to measure the client on."""
    import uvloop

    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


def load(path: Path) -> dict[str, dict[str, float]]:
    """Figures of an earlier run by loop and name; empty when there was none."""
    if not path.exists():
        return {}
    figures: dict[str, dict[str, float]] = json.loads(path.read_text())["figures"]
    return figures


def change(new: float, old: float | None) -> str:
    """The difference to the last run in percent."""
    return "" if not old else f"{(new - old) / old:+.0%}"


def main() -> int:
    """Measure, print, compare and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=OUTPUT, help="JSON file of the figures")
    arguments = parser.parse_args()
    last = load(arguments.output)
    figures = {}
    for name, factory in loop_factories().items():
        with asyncio.Runner(loop_factory=factory) as runner:
            figures[name] = runner.run(measure())

    table = Table(title=f"pywebtransport {__version__}, Python {platform.python_version()}")
    table.add_column("measurement")
    for name in figures:
        table.add_column(name, justify="right")
        table.add_column("change", justify="right")
    for measurement in ALL:
        cells = []
        for name, values in figures.items():
            value = values[measurement.name]
            cells.append(f"{value:,.0f} {measurement.unit}")
            cells.append(change(value, last.get(name, {}).get(measurement.name)))
        table.add_row(measurement.name, *cells)
    Console().print(table)

    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    document = {
        "version": __version__,
        "python": platform.python_version(),
        "machine": platform.platform(),
        "figures": figures,
    }
    arguments.output.write_text(json.dumps(document, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
