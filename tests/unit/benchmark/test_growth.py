"""Growth measurements: when a series is flat, the table, and one tiny run of everything."""

from __future__ import annotations

import json

import pytest

from tests.benchmark import growth
from tests.benchmark.growth_series import Series, markdown


def series(*medians: float, judged: bool = True) -> Series:
    """Costs at 1, 10, 100, ... with a better and a worse repetition beside each."""
    made = Series("name", "title", "streams", "streams", "µs", "asyncio", judged)
    for power, median in enumerate(medians):
        for value in (median, median * 0.9, median * 1.3):
            made.add(10**power, value)
    return made


@pytest.mark.parametrize(
    ("medians", "rise", "flat"),
    [
        ((10, 10, 10), 0.0, True),
        ((10, 11, 12), 0.2, True),
        ((10, 11, 12.1), 0.21, False),
        ((10, 13, 10), 0.3, False),  # a hump is growth, too
        ((80, 40, 35), 0.0, True),  # many share a packet: costs fall
        ((80, 40, 60), 0.5, False),  # and what rises after the fall counts
    ],
)
def test_growth_is_the_largest_rise(medians: tuple[float, ...], rise: float, flat: bool) -> None:
    made = series(*medians)
    assert made.growth == pytest.approx(rise)
    assert made.is_flat is flat
    assert made.end_to_end == pytest.approx(medians[-1] / medians[0] - 1)


def test_points_are_ordered_by_number_however_they_were_measured() -> None:
    made = Series("name", "title", "streams", "streams", "µs", "asyncio")
    for x in (10, 1000, 100, 10):
        made.add(x, x)
    assert [(point.x, len(point.values)) for point in made.ordered()] == [
        (10, 2),
        (100, 1),
        (1000, 1),
    ]


def test_series_survives_json() -> None:
    made = series(10, 11, 12, judged=False)
    again = Series.from_dict(json.loads(json.dumps(made.to_dict())))
    assert again == made
    assert again.to_dict()["flat"] is None


def test_table_tells_the_verdict() -> None:
    lines = markdown([series(10, 11), series(10, 20), series(10, 20, judged=False)]).splitlines()
    assert [line.split("|")[-2].strip() for line in lines[2:]] == [
        "yes (within 20%)",
        "**no** (within 20%)",
        "-",
    ]
    assert "1: 10, 10: 20" in lines[3]


@pytest.mark.parametrize("part", ["streams", "sessions", "memory"])
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_every_part_measures(part: str, loop: str) -> None:
    """With very little work; what comes out is not judged."""
    plan = growth.Plan(
        repetitions=1,
        streams=(1, 5),
        echoes=20,
        sessions=(1, 4),
        pings=20,
        mebibytes=1,
        watched=4,
        rounds=2,
        keep_alive=0.1,
    )
    numbers = {"streams": [1, 5], "sessions": [1, 4], "memory": [1, 2]}[part]
    found = growth.measure_part(plan, part, loop)
    assert found
    for one in found:
        assert one.loop == loop
        assert [point.x for point in one.ordered()] == numbers
    # Memory of a handful of sessions may come out of what is free already.
    if part != "memory":
        assert all(point.median > 0 for one in found for point in one.ordered())


def test_unknown_part_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        growth.main(["--part", "all", "asyncio"])
    assert "parts are streams, sessions, memory" in capsys.readouterr().err
