"""The comparison of buses runs, with real servers."""

import pytest

from tests.benchmark.bus import BUSES, measure, table


@pytest.mark.parametrize("bus", BUSES)
def test_messages_reach_the_processes_of_their_room(bus: str) -> None:
    found = measure(bus, 2, 2, 0.2)
    assert found["publishes"] > 0
    # Those that were under way at the end may be counted by one side only.
    assert found["deliveries"] > found["publishes"]
    assert 0 < found["p50"] <= found["p99"]
    assert f"| {bus} | 2 |" in table([(bus, 2, found)])
