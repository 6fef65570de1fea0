"""``Rounds``: many are served in slices, and everybody sees the rounds in one order."""

from __future__ import annotations

import asyncio

import pytest

from pywebtransport.utils._rounds import Round, Rounds
from tests.support.turns import Clock, Meter


async def test_a_short_round_is_over_at_once() -> None:
    heard: list[int] = []
    one = Rounds().begin(range(5), heard.append)
    assert one.is_over
    assert heard == [0, 1, 2, 3, 4]
    await one.wait()
    called: list[int] = []
    one.when_over(lambda: called.append(1))
    assert called == [1]


async def test_long_rounds_take_many_turns_and_keep_their_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, meter, rounds = Clock.installed(monkeypatch), Meter(), Rounds()
    heard: dict[int, list[str]] = {number: [] for number in range(500)}

    def serve(name: str) -> Round:
        def one(number: int) -> None:
            clock.work(0.0001)
            meter.work()
            heard[number].append(name)

        return rounds.begin(tuple(heard), one)

    with meter.running():
        begun = [serve(name) for name in "abc"]
        assert [one.is_over for one in begun] == [False] * 3
        assert len(rounds) == 3
        called: list[str] = []
        begun[2].when_over(lambda: called.append("c"))
        await begun[2].wait()
        await asyncio.sleep(0)
    assert called == ["c"]
    assert all(names == ["a", "b", "c"] for names in heard.values())
    assert sum(meter.turns) == 1500
    assert max(meter.turns) <= 20 + 2 * 8


async def test_two_rounds_of_different_kinds_share_the_turns(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A short one does not wait until a long one is over."""
    clock, heard = Clock.installed(monkeypatch), []

    def work(name: str) -> None:
        clock.work(0.001)
        heard.append(name)

    long = Rounds().begin(["long"] * 200, work)
    short = Rounds().begin(["short"] * 9, work)
    await short.wait()
    assert not long.is_over
    await long.wait()
    assert heard.count("long") == 200


async def test_cancelling_one_who_waits_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, heard = Clock.installed(monkeypatch), []

    def one(number: int) -> None:
        clock.work(0.001)
        heard.append(number)

    begun = Rounds().begin(range(50), one)
    waiting = [asyncio.create_task(begun.wait()) for _ in range(2)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    await waiting[1]
    assert waiting[0].cancelled()
    assert heard == list(range(50))


async def test_an_action_that_fails_leaves_the_others() -> None:
    """None does; but if one did, nothing would ever be delivered again."""
    rounds, heard = Rounds(), []

    def one(number: int) -> None:
        if number == 2:
            raise ZeroDivisionError
        heard.append(number)

    with pytest.raises(ZeroDivisionError):
        rounds.begin(range(5), one)
    second = rounds.begin([7], heard.append)
    await second.wait()
    assert heard == [0, 1, 3, 4, 7]
