"""Small functions, enumerations and protocols."""

from __future__ import annotations

import asyncio
import enum
import logging
import ssl
from pathlib import Path
from typing import Any

import pytest

from pywebtransport import (
    URL,
    Address,
    ConfigurationError,
    ConnectionState,
    EventType,
    SessionState,
    StreamDirection,
    StreamError,
    StreamState,
    TimeoutError,
    WebTransportError,
    WebTransportStream,
    __version__,
)
from pywebtransport.constants import ErrorCodes
from pywebtransport.types import (
    BidirectionalStreamProtocol,
    Data,
    ReadableStreamProtocol,
    WebTransportProtocol,
    WritableStreamProtocol,
)
from pywebtransport.utils import (
    build_webtransport_url,
    calculate_checksum,
    chunked_read,
    create_task_with_timeout,
    ensure_bytes,
    ensure_str,
    format_bytes,
    format_duration,
    format_timestamp,
    generate_connection_id,
    generate_request_id,
    generate_self_signed_cert,
    generate_session_id,
    get_logger,
    get_timestamp,
    is_ipv4_address,
    is_ipv6_address,
    load_certificate,
    merge_configs,
    normalize_headers,
    parse_webtransport_url,
    resolve_address,
    run_with_timeout,
    setup_logging,
    validate_address,
    validate_error_code,
    validate_port,
    validate_session_id,
    validate_stream_id,
    validate_url,
    wait_for_condition,
)
from tests.support.endpoints import PairOfSessions


def test_urls_and_addresses() -> None:
    url: URL = build_webtransport_url(
        host="example.org", port=4433, path="/chat", query_params={"room": "red"}
    )
    assert url == "https://example.org:4433/chat?room=red"
    assert parse_webtransport_url(url=url) == ("example.org", 4433, "/chat?room=red")
    assert validate_url(url=url)
    assert not validate_url(url="http://example.org/")
    assert is_ipv4_address(host="127.0.0.1")
    assert is_ipv6_address(host="::1")
    assert not is_ipv4_address(host="example.org")


def test_data_and_texts() -> None:
    assert ensure_bytes(data="é") == "é".encode()
    assert ensure_str(data=bytearray(b"abc")) == "abc"
    assert calculate_checksum(data=b"", algorithm="sha256").startswith("e3b0c442")
    assert chunked_read(data=b"abcde", chunk_size=2) == [b"ab", b"cd", b"e"]
    assert "abc" in format_bytes(data=b"abc", max_length=10)
    assert format_duration(seconds=1.5)
    assert format_timestamp(timestamp=get_timestamp())
    merged = merge_configs(
        base_config={"a": {"b": 1, "c": 2}}, override_config={"a": {"b": 3}, "d": 4}
    )
    assert merged == {"a": {"b": 3, "c": 2}, "d": 4}
    assert normalize_headers(headers={"X-Count": 3}) == {"x-count": "3"}
    identifiers = {generate_connection_id(), generate_request_id(), generate_session_id()}
    assert len(identifiers) == 3
    assert __version__


def test_values_are_checked() -> None:
    address: Address = ("127.0.0.1", 80)
    validate_address(address=address)
    validate_error_code(error_code=0)
    validate_port(port=443)
    validate_session_id(session_id=generate_session_id())
    validate_stream_id(stream_id=4)
    for check, bad in (
        (validate_address, {"address": "here"}),
        (validate_error_code, {"error_code": -1}),
        (validate_port, {"port": 70000}),
        (validate_session_id, {"session_id": ""}),
        (validate_stream_id, {"stream_id": -4}),
    ):
        with pytest.raises((ValueError, TypeError, WebTransportError)):
            check(**bad)


def test_certificates_and_logs(tmp_path: Path) -> None:
    certfile, keyfile = generate_self_signed_cert(
        hostname="localhost", output_dir=str(tmp_path), key_size=2048, days_valid=13
    )
    assert (certfile, keyfile) == (
        str(tmp_path / "localhost.crt"),
        str(tmp_path / "localhost.key"),
    )
    assert isinstance(load_certificate(certfile=certfile, keyfile=keyfile), ssl.SSLContext)
    with pytest.raises((WebTransportError, OSError)):
        load_certificate(certfile=str(tmp_path / "none"), keyfile=keyfile)
    logger = setup_logging(level="WARNING", logger_name="contract.program")
    assert logger.level == logging.WARNING
    assert get_logger(name="contract.program") is logger
    for handler in list(logger.handlers):
        logger.removeHandler(handler)


async def test_waiting() -> None:
    async def answer() -> int:
        return 42

    async def never() -> int:
        await asyncio.Event().wait()
        return 0

    task = await create_task_with_timeout(coro=answer(), timeout=20.0, name="answer")
    assert await task == 42
    assert await run_with_timeout(coro=answer(), timeout=20.0) == 42
    assert await run_with_timeout(coro=never(), timeout=0.01, default_value=7) == 7
    await wait_for_condition(condition=lambda: True, timeout=1.0, interval=0.01)
    with pytest.raises(TimeoutError):
        await wait_for_condition(condition=lambda: False, timeout=0.01, interval=0.001)
    assert await resolve_address(host="127.0.0.1", port=80) == ("127.0.0.1", 80)


@pytest.mark.parametrize(
    ("enumeration", "value", "member"),
    [
        (ConnectionState, "connected", ConnectionState.CONNECTED),
        (EventType, "session_ready", EventType.SESSION_READY),
        (SessionState, "draining", SessionState.DRAINING),
        (StreamDirection, "send_only", StreamDirection.SEND_ONLY),
        (StreamState, "half_closed_local", StreamState.HALF_CLOSED_LOCAL),
        (ErrorCodes, 0x10C, ErrorCodes.H3_REQUEST_CANCELLED),
    ],
)
def test_enumerations_are_found_by_value(
    enumeration: type[enum.Enum], value: str | int, member: enum.Enum
) -> None:
    assert enumeration(value) is member
    assert member.value == value
    assert len({each.value for each in enumeration}) == len(enumeration)


class MemoryStream:
    """A stream of the user's own, for tests of a program that takes any stream."""

    def __init__(self, text: bytes) -> None:
        self.text, self.written, self.closing = text, b"", False

    def at_eof(self) -> bool:
        return not self.text

    async def read(self, *, size: int = -1) -> bytes:
        return await self.readexactly(n=len(self.text) if size < 0 else size)

    async def readexactly(self, *, n: int) -> bytes:
        taken, self.text = self.text[:n], self.text[n:]
        return taken

    async def readuntil(self, *, separator: bytes = b"\n") -> bytes:
        return await self.readexactly(n=self.text.index(separator) + len(separator))

    async def readline(self, *, separator: bytes = b"\n") -> bytes:
        return await self.readuntil(separator=separator)

    async def write(self, *, data: Data) -> None:
        self.written += ensure_bytes(data=data)

    async def writelines(self, *, lines: list[Data]) -> None:
        for line in lines:
            await self.write(data=line)

    async def flush(self) -> None:
        """Nothing waits."""

    def is_closing(self) -> bool:
        return self.closing

    async def close(self, *, code: int | None = None, reason: str | None = None) -> None:
        self.closing = True


async def copy_lines(source: ReadableStreamProtocol, destination: WritableStreamProtocol) -> None:
    await destination.writelines(lines=[await source.readline(), await source.readuntil()])
    await destination.write(data=await source.readexactly(n=1) + await source.read(size=-1))
    await destination.flush()
    await destination.close()


async def test_protocols_describe_objects_of_ones_own() -> None:
    stream = MemoryStream(b"a\nb\ncd")
    assert isinstance(stream, BidirectionalStreamProtocol)
    await copy_lines(stream, stream)
    assert stream.written == b"a\nb\ncd"
    assert stream.at_eof()
    assert stream.is_closing()


async def test_protocols_describe_the_streams_of_a_session(pair: PairOfSessions) -> None:
    async with pair() as (near, far):
        stream: BidirectionalStreamProtocol = await near.create_bidirectional_stream()
        assert isinstance(stream, BidirectionalStreamProtocol)
        await stream.write(data=b"a\nb\ncd")
        await stream.close()
        assert stream.is_closing()
        async for other in far.incoming_streams():
            source: ReadableStreamProtocol = other
            assert isinstance(other, WebTransportStream)
            assert not source.at_eof()
            await copy_lines(other, other)
            assert source.at_eof()
            break
        assert await stream.readline(separator=b"c") == b"a\nb\nc"
        assert await stream.read() == b"d"


async def test_a_close_with_a_code_gives_the_stream_up(pair: PairOfSessions) -> None:
    async with pair() as (near, far):
        for create in (near.create_unidirectional_stream, near.create_bidirectional_stream):
            stream: WritableStreamProtocol = await create()
            await stream.write(data=b"half of ")
            async for other in far.incoming_streams():
                assert await other.readexactly(n=8) == b"half of "
                await stream.close(code=7, reason="no more")
                with pytest.raises(StreamError) as info:
                    await other.read_all()
                assert info.value.error_code == 7
                break
            assert stream.is_closing()


class Recorder(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.facts: list[Any] = []

    def connection_made(self, transport: Any) -> None:
        self.facts.append("made")

    def connection_lost(self, exc: Exception | None) -> None:
        self.facts.append("lost")

    def datagram_received(self, data: bytes, addr: Address) -> None:
        self.facts.append(data)

    def error_received(self, exc: Exception) -> None:
        self.facts.append(exc)


def test_protocol_of_a_transport() -> None:
    recorder: WebTransportProtocol = Recorder()
    assert isinstance(recorder, WebTransportProtocol)
    recorder.connection_made(None)
    recorder.datagram_received(b"x", ("127.0.0.1", 1))
    recorder.error_received(ConfigurationError("e"))
    recorder.connection_lost(None)
    assert isinstance(recorder, Recorder)
    assert len(recorder.facts) == 4
