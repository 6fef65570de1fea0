"""A number that is refused: the message names the argument, the value, and what is accepted."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest

from pywebtransport import ConfigurationError
from pywebtransport.client import ClientPool
from pywebtransport.connection import ConnectionLoadBalancer
from pywebtransport.datagram import DatagramReliabilityLayer
from pywebtransport.session import WebTransportSession
from pywebtransport.utils import generate_self_signed_cert
from tests.support.endpoints import PairOfSessions

HUGE = 10**5000
"""More digits than Python writes."""

_Call = Callable[[WebTransportSession, Any], Any]
CASES: list[tuple[str, str, _Call]] = [
    ("code", "0 to 4294967295", lambda session, value: session.close(code=value)),
    ("priority", "0 to 2", lambda session, value: session.datagrams.send(b"x", priority=value)),
    ("ttl", "more than 0 seconds", lambda session, value: session.datagrams.send(b"x", ttl=value)),
    (
        "max_retries",
        "at least 0",
        lambda session, value: DatagramReliabilityLayer(session.datagrams, max_retries=value),
    ),
]


async def make(call: _Call, session: WebTransportSession, value: Any) -> None:
    made = call(session, value)
    if inspect.isawaitable(made):
        await made


@pytest.mark.parametrize("value", ["1", None, 1.5, [1], HUGE, -HUGE], ids=lambda _: "")
@pytest.mark.parametrize(("key", "accepted", "call"), CASES, ids=[case[0] for case in CASES])
@pytest.mark.loops("virtual")
async def test_value_of_the_wrong_kind(
    pair: PairOfSessions, key: str, accepted: str, call: _Call, value: Any
) -> None:
    if key == "ttl" and (value is None or value == 1.5):
        value = True  # those are accepted
    async with pair() as (near, _):
        with pytest.raises(ConfigurationError) as refused:
            await make(call, near, value)
    message = str(refused.value)
    assert key in message
    assert accepted in message
    assert "9223372036854775807" not in message
    if not isinstance(value, int):
        assert repr(value) in message
    assert refused.value.config_key == key


@pytest.mark.parametrize("value", ["1", -1, 1.5, None])
@pytest.mark.loops("virtual")
async def test_streams(pair: PairOfSessions, value: Any) -> None:
    async with pair() as (near, _):
        stream = await near.create_bidirectional_stream()
        for call in (stream.readexactly, lambda n: stream.read_all(max_size=n)):
            if value is None and call is not stream.readexactly:
                continue
            with pytest.raises(ConfigurationError, match=r"of at least 0|>= 0") as refused:
                await call(value)
            assert str(value) in str(refused.value)
        for abort in (stream.reset, stream.stop_sending):
            with pytest.raises(ConfigurationError, match="0 to 4294967295"):
                abort(value)


@pytest.mark.parametrize("value", ["1", 0, 36501, 1.5, None, True])
def test_days_of_a_certificate(value: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"days_valid = .*from 1 to 36500"):
        generate_self_signed_cert(hostname="localhost", output_dir=".", days_valid=value)


def test_lists() -> None:
    with pytest.raises(ConfigurationError, match="configs = 5: expected a list of ClientConfig"):
        ClientPool(5)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match=r"configs = .*at least one ClientConfig"):
        ClientPool([])
    with pytest.raises(ConfigurationError, match=r"targets = .*at least one \(host, port\)"):
        ConnectionLoadBalancer(targets=[])
