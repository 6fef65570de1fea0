"""The table of what is held in bytes says what the configuration says."""

from __future__ import annotations

import re

import pytest

from pywebtransport import ClientConfig, ServerConfig
from pywebtransport.h3._options import H3Options
from pywebtransport.utils._budget import PROCESS
from tests.support.pages import ROOT

UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "datagrams": 1, "streams": 1}
PAGE = (ROOT / "docs" / "topics" / "security.md").read_text()
TABLE = PAGE.partition("| what is held |")[2].partition("\n\n")[0]
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in TABLE.splitlines()[2:]
    if line.startswith("|")
]


def engine_bounds() -> list[int]:
    """Bytes that the sources of the engine and its binding name."""
    quic = ROOT / "pywebtransport" / "_quic"
    packets = re.search(
        r"QE_FAIR_MAX_BYTES \(\(size_t\)(\d+) << 20\)", (quic / "engine" / "fair.h").read_text()
    )
    datagrams = re.search(r"MAX_DATAGRAM_BYTES = ([\d_]+)", (quic / "endpoint.pxi").read_text())
    assert packets is not None
    assert datagrams is not None
    pieces = re.search(
        r"QE_LIBMEM_SPARE \(\(uint64_t\)(\d+) << 20\)",
        (quic / "engine" / "libmem.h").read_text(),
    )
    assert pieces is not None
    return [int(packets[1]) << 20, int(datagrams[1]), int(pieces[1]) << 20]


def test_the_table_is_found() -> None:
    assert len(ROWS) > 10
    assert all(len(row) == 5 for row in ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_defaults_are_those_of_the_configuration(row: list[str]) -> None:
    name, shown = row[2], row[3]
    number, unit = re.fullmatch(r"([\d,]+) (\w+).*", shown).groups()  # type: ignore[union-attr]
    value = int(number.replace(",", "")) * UNITS[unit]
    if name == "none":
        assert value in (H3Options().max_capsule_backlog, 16 << 20, *engine_bounds())
    elif name == "`max_memory`":
        assert ClientConfig().max_memory is ServerConfig().max_memory is None
        assert PROCESS.limit == value
    else:
        assert getattr(ClientConfig(), name.strip("`")) == value
        assert getattr(ServerConfig(), name.strip("`")) == value


def test_limits_of_idle_work_are_those_of_the_page() -> None:
    options = H3Options()
    assert f"falls by {options.idle_items_per_second:,} a second" in " ".join(PAGE.split())
    assert f"past {options.max_idle_items:,} is closed" in " ".join(PAGE.split())
