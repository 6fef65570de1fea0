"""A peer that closes in the record of its parameters, as a client that was cancelled does."""

from __future__ import annotations

from .bed import PARAMETERS_02, End


def test_no_timer_is_left() -> None:
    end = End()
    end.link.take()
    end.connection.receive(PARAMETERS_02 + bytes.fromhex("1d0000"))
    end.clock.turn()
    assert end.handler.closed is not None
    assert (end.handler.closed.kind, end.handler.closed.code) == ("application", 0)
    assert end.ready == 1  # the session hears of both, in this order
    assert end.clock.waiting == 0
    assert end.errors == []
