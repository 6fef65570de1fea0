"""Programs use everything that was promised; see ``table.py`` for what counts as a use."""

from __future__ import annotations

import pytest

from .table import PROGRAMS, is_used, promises, read_tests, rows, users

TEXT = """
from pywebtransport import WebTransportClient as Client
KINDS = [EventType.SESSION_READY]
async def helper(session):
    async with session:
        await session.close()
def unrelated():
    stream.abort()
def test_one():
    Client.create(url="https://h/")
    helper(KINDS)
def test_two():
    [item async for item in stream]
"""


@pytest.mark.parametrize("name", sorted(promises()))
def test_a_program_uses(name: str) -> None:
    assert [test for test in users()[name] if test.startswith(PROGRAMS)]


def test_what_is_a_use() -> None:
    (one, used, everything), (two, iterated, _) = read_tests(TEXT)
    assert (one, two) == ("test_one", "test_two")
    # What is imported under another name, and what a helper does, count.
    assert {"WebTransportClient", "create", "close", "__aenter__", "EventType"} <= used
    assert "abort" not in used
    assert {"__aiter__", "__anext__"} <= iterated - used
    assert is_used("WebTransportClient.close", used, everything)
    # The module names the class, or one under it.
    assert is_used("EventEmitter.close", used, everything)
    assert not is_used("ConnectionPool.close", used, everything)
    assert not is_used("WebTransportClient.connect", used, everything)
    assert not is_used("ClientPool", used, everything)


def test_every_name_has_a_row() -> None:
    table = list(rows(shown=1))
    assert len(table) == 2 + len(promises())
    assert all("::test_" in row for row in table[2:])
