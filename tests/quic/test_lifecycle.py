"""Resets, closes, exceptions out of handlers, and calls on what is dead."""

from __future__ import annotations

import gc
import subprocess
import sys
import textwrap
import time
import weakref
from typing import Any

import pytest

from pywebtransport._quic import (
    CloseInfo,
    QuicConnection,
    QuicEndpoint,
    QuicGroup,
    QuicSocket,
    QuicStream,
    live_objects,
)
from pywebtransport.exceptions import (
    ConfigurationError,
    ConnectionError,
    StreamError,
    StreamResetError,
)

from .harness import Lab, Link, Recorder, Side, Waiter, run

KIB = 1024
BIG_CODE = (1 << 62) - 1


# --------------------------------------------------------------------- streams


@pytest.mark.parametrize("code", [0, 0x52E4A40FA8DB, BIG_CODE])
def test_reset_carries_its_code(lab: Lab, code: int) -> None:
    with lab.link() as link:
        near, far = link.open(b"begun")
        waiter = Waiter()
        assert far.read() == b"begun"
        assert far.reset_code is None
        far.set_read_waiter(waiter)
        near.reset(code)
        near.reset(code)
        link.run(lambda: far.is_reset)
        assert waiter.woken == 1
        assert far.reset_code == code
        for _ in range(2):
            with pytest.raises(StreamResetError) as caught:
                far.read()
            assert caught.value.details["code"] == code
            assert caught.value.stream_id == far.stream_id
        with pytest.raises(StreamResetError):
            far.readinto(bytearray(1))
        with pytest.raises(StreamError, match="reset by this end"):
            near.write(b"more")


def test_bytes_before_a_reset_can_be_peeked_until_the_reader_is_told(lab: Lab) -> None:
    with lab.link() as link:
        near, far = link.open(b"header")
        near.reset(9)
        link.run(lambda: far.is_reset)
        assert far.peek(100) == b"header"
        far.skip(2)
        assert far.peek(100) == b"ader"
        with pytest.raises(StreamResetError):
            far.read()
        assert far.buffered == 0


def test_reset_waits_for_the_reliable_prefix(lab: Lab) -> None:
    with lab.link() as link:
        near = link.conn.open_stream(True)
        assert near is not None
        near.set_reliable_size(6)
        near.write(b"header")
        link.client.endpoint.process(time.monotonic_ns())
        assert (near.queued, near.unacked) == (0, 6)
        near.write(bytes(3000 * KIB))
        near.reset(77)
        link.run(lambda: link.far.streams and link.far.streams[0].is_reset)
        far = link.far.streams[0]
        assert far.reset_code == 77
        assert far.peek(6) == b"header"


def test_reset_after_everything_was_acknowledged_is_nothing(lab: Lab) -> None:
    with lab.link() as link:
        near, far = link.open(b"done", fin=True)
        link.run(lambda: near.is_acked)
        near.reset(1)
        link.settle()
        assert far.read() == b"done"
        assert far.read() == b""


def test_stop_sending_after_the_end_only_drops(lab: Lab) -> None:
    with lab.link() as link:
        near, far = link.open(b"done", fin=True)
        far.stop_sending(1)
        far.stop_sending(1)
        assert far.buffered == 0
        link.settle()
        assert not near.is_stopped


@pytest.mark.parametrize("code", [-1, 1 << 62, "5", None, 1.0])
def test_codes_out_of_range_are_refused(lab: Lab, code: Any) -> None:
    with lab.link() as link:
        near, far = link.open(b"x")
        for call in (near.reset, far.stop_sending, link.conn.close):
            with pytest.raises(ConfigurationError, match=r"2\*\*62") as caught:
                call(code)
            assert caught.value.config_key == "code"
        link.settle()
        assert not far.is_reset


def test_stream_is_closed_when_both_directions_are_done(lab: Lab) -> None:
    with lab.link() as link:
        near, far = link.open(b"ping", fin=True)
        assert not near.is_closed
        far.write(b"pong", True)
        link.run(lambda: near.is_closed and far.is_closed)
        assert near.read() == b"pong"
        assert near.read() == b""
        assert far.read() == b"ping"
        assert (near.queued, near.unacked) == (0, 0)
        assert near.is_acked
        for call in (
            lambda: near.reset(1),
            lambda: near.stop_sending(1),
            lambda: near.set_send_order(1),
            lambda: near.set_reliable_size(1),
        ):
            call()


def test_stop_sending_reaches_the_sink(lab: Lab) -> None:
    heard = []
    with lab.link() as link:
        near, far = link.open(b"x")
        near.sink = heard.append
        far.stop_sending(3)
        link.run(lambda: heard)
        assert heard == [near]
        assert near.stop_code == 3


def test_streams_of_an_ended_connection_raise_typed_errors(lab: Lab) -> None:
    with lab.link() as link:
        near, far = link.open(b"left over")
        readers, writers = Waiter(), Waiter()
        near.set_read_waiter(readers)
        near.set_acked_waiter(writers)
        link.conn.close(0x107, "enough")
        link.run(lambda: link.near.closed and link.far.closed)
        assert readers.woken == writers.woken == 1
        assert near.is_closed
        assert far.is_closed
        assert far.read() == b"left over"
        for stream, remote in ((near, False), (far, True)):
            for use in (stream.read, lambda s=stream: s.readinto(bytearray(1))):
                with pytest.raises(StreamError, match="connection ended") as caught:
                    use()
                assert caught.value.details["connection_closed"] is True
                assert caught.value.details["code"] == 0x107
                assert caught.value.remote is remote
            with pytest.raises(StreamError, match="connection ended"):
                stream.write(b"x")
            with pytest.raises(StreamError, match="connection ended"):
                stream.write(bytearray(b"x"))
            late = Waiter()
            stream.set_read_waiter(late)
            assert late.woken == 1
            stream.reset(1)
            stream.stop_sending(1)
            stream.release()


def test_sink_is_the_handlers_until_it_is_set(lab: Lab) -> None:
    with lab.link() as link:
        near, far = link.open(b"1")
        assert far.sink == link.far.stream_ready
        assert near.sink is None
        heard: list[QuicStream] = []
        far.sink = heard.append
        near.write(b"2")
        link.run(lambda: heard)
        assert link.far.ready == [far]
        far.sink = None
        near.write(b"3")
        link.run(lambda: far.buffered == 3)
        assert heard == [far]
        far.tag = "anything"
        assert far.tag == "anything"


# ----------------------------------------------------------------- connections


@pytest.mark.parametrize("from_server", [False, True])
@pytest.mark.parametrize("application", [False, True])
def test_close_tells_both_ends_who_and_why(lab: Lab, from_server: bool, application: bool) -> None:
    with lab.link() as link:
        closer = link.peer if from_server else link.conn
        code = BIG_CODE if application else 0x0A
        closer.close(code, "because é", application=application)
        closer.close(1, "too late")
        assert not closer.is_closed
        link.run(lambda: link.near.closed and link.far.closed)
        for info, remote in ((link.near.closed, from_server), (link.far.closed, not from_server)):
            assert info is not None
            assert info.kind == ("application" if application else "transport")
            assert info.code == code
            assert info.reason == "because é"
            assert info.remote is remote
            assert info.handshake_done is True
            assert "because" in repr(info)
        assert closer.is_closed
        assert link.conn.close_info is link.near.closed
        assert link.conn.handler is None
        assert link.near.order[-1] == "closed"


def test_long_reason_is_cut_between_characters(lab: Lab) -> None:
    with lab.link() as link:
        link.conn.close(1, "ü" * 2000)
        link.run(lambda: link.far.closed)
        assert link.far.closed is not None
        assert 10 < len(link.far.closed.reason) <= 128
        assert set(link.far.closed.reason) == {"ü"}


def test_calls_on_a_closed_connection(lab: Lab) -> None:
    with lab.link() as link:
        group = link.conn.new_group(object())  # type: ignore[arg-type]
        remote = link.server.address
        link.conn.close(3, "bye")
        link.run(lambda: link.near.closed)
        conn = link.conn
        for call in (
            lambda: conn.open_stream(False),
            lambda: conn.send_datagram(b"", b"x"),
            lambda: conn.send_datagram(b"", bytearray(b"x")),
            lambda: conn.new_group(object()),  # type: ignore[arg-type]
            lambda: conn.migrate(link.client.quic_socket, link.client.address, 0),
            lambda: conn.initiate_key_update(0),
            lambda: conn.export_keying_material(b"l", b"", 8),
        ):
            with pytest.raises(ConnectionError, match="connection is closed") as caught:
                call()
            assert caught.value.error_code == 3
            assert caught.value.remote is False
            assert caught.value.remote_address == remote
        conn.close(1)
        conn.abandon()
        assert conn.streams_left(False) == 0
        assert conn.max_datagram_size == 0
        assert conn.datagrams_queued == 0
        assert conn.remote_address == remote
        assert conn.alpn == "h3"
        assert conn.stats()["packets_sent"]
        assert group.stats()["bytes_sent"] == 0
        assert group.clear_datagrams() == 0
        group.send_limit = 5
        group.recv_limit = 5
        group.close()
        group.close()


def test_abandon_sends_nothing_and_tells_the_handler_at_once(lab: Lab) -> None:
    with lab.link() as link:
        link.settle()
        sent = link.client.endpoint.stats()["packets_sent"]
        link.conn.abandon()
        assert link.near.closed is not None
        assert link.near.closed.remote is False
        link.client.endpoint.process(time.monotonic_ns())
        assert link.client.endpoint.stats()["packets_sent"] == sent


def test_idle_connection_ends_with_its_kind(lab: Lab) -> None:
    settings = {"idle_timeout": 500_000_000}  # and the handshake takes less
    with lab.link(client={"settings": settings}) as link:
        link.run(lambda: link.near.closed and link.far.closed)
        for info in (link.near.closed, link.far.closed):
            assert info is not None
            assert info.kind == "idle"
            assert info.code == 0
            assert info.remote is False


def test_keep_alive_keeps_it(lab: Lab) -> None:
    """The idle timeout passes, and is long: a machine may stop for a while meanwhile."""
    settings = {"idle_timeout": 2_000_000_000, "keep_alive": 250_000_000}
    with lab.link(client={"settings": settings}) as link:
        start = link.peer.stats()["packets_received"]
        assert start is not None
        link.run(lambda: (link.peer.stats()["packets_received"] or 0) >= start + 9)
        assert link.near.closed is None


def test_refused_connection_hears_the_refusal(lab: Lab) -> None:
    with lab.pending(server={"accept": lambda connection: None}) as link:
        link.run(lambda: link.near.closed)
        assert link.near.closed is not None
        assert link.near.closed.kind == "transport"
        assert link.near.closed.code == 2
        assert link.near.closed.remote is True


def test_server_that_stopped_accepting_refuses(lab: Lab) -> None:
    with lab.side(True) as server, lab.side(False) as client:
        server.endpoint.stop_accepting()
        link = Link(server, client)
        link.run(lambda: link.near.closed)
        assert link.near.closed is not None
        assert (link.near.closed.kind, link.near.closed.code) == ("transport", 2)
        assert server.endpoint.stats()["refused"] >= 1


# ------------------------------------------------------- exceptions in handlers


class Trouble(Recorder):
    """Raises in every method, after recording."""

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        if name.startswith("_") or not callable(value):
            return value

        def raising(*arguments: object) -> None:
            value(*arguments)
            raise ValueError(name)

        return raising


def test_exceptions_of_handlers_stop_nobody_else(lab: Lab) -> None:
    troubles: list[Trouble] = []

    def accept(connection: QuicConnection) -> Trouble:
        handler = Trouble()
        handler.quic = connection
        troubles.append(handler)
        return handler

    with (
        lab.side(True, accept=accept, errors=None) as server,
        lab.side(False) as client,
    ):
        link = Link(server, client)
        link.run(lambda: link.near.handshakes and troubles)
        (far,) = troubles
        for _ in range(2):
            stream = link.conn.open_stream(False)
            assert stream is not None
            stream.write(b"x")
        link.conn.send_datagram(b"", b"d")
        link.run(lambda: len(far.streams) == 2 and far.datagrams)
        link.conn.close(0)
        link.run(lambda: far.closed)
        raised = [str(error) for error in server.errors]
        assert raised.count("handshake_completed") == 1
        assert raised.count("stream_ready") == 2
        assert raised.count("datagrams_received") == 1
        assert raised[-1] == "connection_closed"


def test_exception_in_accept_closes_the_connection(lab: Lab) -> None:
    def accept(connection: QuicConnection) -> Recorder:
        raise LookupError("no room")

    with lab.side(True, accept=accept, errors=1) as server, lab.side(False) as client:
        link = Link(server, client)
        link.run(lambda: link.near.closed)
        assert link.near.closed is not None
        assert (link.near.closed.kind, link.near.closed.code) == ("transport", 1)
        assert isinstance(server.errors[0], LookupError)


def test_exception_in_a_waiter_is_reported(lab: Lab) -> None:
    class Broken(Waiter):
        def set_result(self, result: None, /) -> None:
            raise ValueError("broken waiter")

    with lab.side(True, errors=1) as server, lab.side(False) as client:
        link = Link(server, client).establish()
        near, far = link.open(b"x")
        far.read()
        far.set_read_waiter(Broken())
        near.write(b"y")
        link.run(lambda: far.buffered)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_in_a_handler_comes_out_of_the_turn(
    lab: Lab, kind: type[BaseException]
) -> None:
    def interrupt(stream: QuicStream) -> None:
        raise kind

    with lab.link() as link:
        near, far = link.open(b"x")
        far.sink = interrupt
        near.write(b"y")
        with pytest.raises(kind):
            link.run(lambda: False)
        far.sink = None
        near.write(b"z", True)
        link.run(lambda: far.fin_received)


def test_exception_in_on_error_comes_out_of_the_turn(lab: Lab) -> None:
    def fail(argument: object) -> None:
        raise RuntimeError(type(argument).__name__)

    with lab.link() as link:
        near, far = link.open(b"x")
        link.server.report = fail  # type: ignore[method-assign]
        far.sink = fail
        near.write(b"y")
        with pytest.raises(RuntimeError, match="RuntimeError"):
            link.run(lambda: False)


# ---------------------------------------------------------- calls inside deliver


def test_endpoint_may_be_closed_in_a_sink(lab: Lab) -> None:
    with lab.link() as link:
        near, far = link.open(b"x")
        other_near, other_far = link.open(b"y")
        ends: list[str] = []

        def sink(stream: QuicStream) -> None:
            link.server.endpoint.close()
            assert link.server.endpoint.is_closed
            assert stream.is_closed
            ends.append("returned")

        far.sink = sink
        near.write(b"boom")
        other_near.write(b"boom")
        link.run(lambda: link.far.closed)
        assert ends == ["returned"]
        assert other_far.is_closed
        assert link.far.order[-1] == "closed"


@pytest.mark.parametrize("method", ["handshake_completed", "connection_closed"])
def test_endpoint_may_be_closed_in_a_handler(lab: Lab, method: str) -> None:
    with lab.side(True) as server, lab.side(False) as client:
        link = Link(server, client)

        def close(*arguments: object) -> None:
            client.endpoint.close()

        setattr(link.near, method, close)
        if method == "connection_closed":
            link.establish()
            link.conn.close(0)
        link.run(lambda: client.endpoint.is_closed)
        assert link.conn.is_closed
        assert client.endpoint.next_tick() is None
        assert client.endpoint.process(time.monotonic_ns()) is False


def test_connection_may_be_abandoned_in_a_handler(lab: Lab) -> None:
    with lab.link() as link:
        near, far = link.open(b"x")
        far.sink = lambda stream: stream.connection.abandon()
        near.write(b"y")
        link.run(lambda: link.far.closed)
        assert far.is_closed


def test_turns_inside_a_turn_only_mark(lab: Lab) -> None:
    answers: list[bool] = []
    with lab.link() as link:
        near, far = link.open(b"x")
        server = link.server.endpoint

        def sink(stream: QuicStream) -> None:
            now = time.monotonic_ns()
            answers.append(server.process(now))
            answers.append(server.receive(link.server.quic_socket, now))

        far.sink = sink
        near.write(b"y")
        link.run(lambda: answers)
        assert answers == [True, True]


def test_handlers_may_write_open_and_close_streams(lab: Lab) -> None:
    with lab.link() as link:
        near, far = link.open(b"x")
        opened: list[QuicStream] = []

        def sink(stream: QuicStream) -> None:
            data = stream.read()
            assert data is not None
            stream.write(data * 2, True)
            answer = stream.connection.open_stream(True)
            assert answer is not None
            answer.write(b"news", True)
            opened.append(answer)
            stream.connection.send_datagram(b"", b"also")
            stream.stop_sending(1)

        far.read()
        far.sink = sink
        near.write(b"y")
        link.run(lambda: near.fin_received and link.near.streams and link.near.datagrams)
        assert near.read() == b"yy"
        assert link.near.streams[0].read() == b"news"
        assert link.near.datagrams == [b"also"]


# ------------------------------------------------------------- endpoints, objects


def test_closing_an_endpoint_ends_its_connections_without_a_packet(lab: Lab) -> None:
    with lab.link() as link:
        near, _ = link.open(b"x")
        waiter = Waiter()
        near.set_read_waiter(waiter)
        endpoint, sock = link.client.endpoint, link.client.quic_socket
        endpoint.close()
        endpoint.close()
        assert link.near.closed is not None
        assert link.near.order[-1] == "closed"
        assert waiter.woken == 1
        now = time.monotonic_ns()
        assert endpoint.process(now) is False
        assert endpoint.receive(sock, now) is False
        assert endpoint.is_blocked is False
        assert endpoint.next_tick() is None
        assert sock.features == frozenset()
        sock.close()
        endpoint.unblock()
        endpoint.stop_accepting()
        assert endpoint.stats()["connections"] == 0
        for call in (
            lambda: endpoint.add_socket(0),
            lambda: endpoint.set_tls(lab.client_tls),
            lambda: endpoint.connect(
                sock, link.server.address, server_name="x", handler=Recorder(), now=now
            ),
        ):
            with pytest.raises(ConnectionError, match="endpoint is closed"):
                call()


def test_socket_of_another_endpoint_is_refused(lab: Lab) -> None:
    with lab.link() as link:
        foreign = link.server.quic_socket
        assert link.client.endpoint.receive(foreign, time.monotonic_ns()) is False
        with pytest.raises(ConfigurationError, match="same endpoint"):
            link.client.endpoint.connect(
                foreign, link.server.address, server_name="x", handler=Recorder(), now=0
            )
        with pytest.raises(ConfigurationError, match="same endpoint"):
            link.conn.migrate(foreign, link.client.address, 0)


@pytest.mark.parametrize("kind", [QuicStream, QuicConnection, QuicGroup, QuicSocket])
def test_objects_of_the_engine_cannot_be_made_by_hand(kind: type) -> None:
    with pytest.raises(TypeError, match="is made by"):
        kind()


def test_close_info_can_be_made_and_shows_itself() -> None:
    info = CloseInfo(kind="refused", errno=111, tls_error="bad", code=5, reason="r", remote=True)
    assert (info.kind, info.errno, info.remote, info.code) == ("refused", 111, True, 5)
    assert repr(info) == (
        "<CloseInfo kind='refused' remote=True code=0x5 reason='r' tls_error='bad' "
        "errno=111 handshake_done=False>"
    )
    with pytest.raises(ConfigurationError, match="one of application"):
        CloseInfo(kind="boredom")


def test_a_stream_lives_while_the_engine_has_it_and_no_longer(lab: Lab) -> None:
    with lab.link() as link:
        near = link.conn.open_stream(False)
        assert near is not None
        alive = weakref.ref(near)
        near.write(b"x", True)
        del near
        gc.collect()
        assert alive() is not None
        link.run(lambda: link.far.streams)
        link.far.streams[0].write(b"", True)
        link.run(lambda: (gc.collect() >= 0) and alive() is None)


def test_ten_thousand_streams_leave_nothing(lab: Lab) -> None:
    with lab.link() as link:
        before = live_objects()["streams"]

        def release_all() -> None:
            for far in link.far.streams:
                far.release()
            link.far.streams.clear()
            link.far.ready.clear()
            link.far.order.clear()

        def may_open() -> bool:
            release_all()  # some may have arrived since the last time: they give credit, too
            return link.conn.streams_left(True) > 0

        for _ in range(10_000):
            stream = link.conn.open_stream(True)
            if stream is None:
                link.run(may_open)
                stream = link.conn.open_stream(True)
            assert stream is not None
            stream.write(b"bye", True)
            del stream

        def nothing_left() -> bool:
            release_all()
            return live_objects()["streams"] == before

        link.run(nothing_left)


def test_connections_come_and_go(lab: Lab) -> None:
    with lab.side(True) as server, lab.side(False) as client:
        for number in range(20):
            link = Link(server, client).establish()
            link.open(b"hello")
            link.conn.close(number)
            link.run(lambda link=link: link.near.closed and link.far.closed)
        server.handlers.clear()
        del link
        gc.collect()
        assert live_objects()["connections"] == 0
        assert live_objects()["streams"] == 0


def test_groups_of_an_ended_connection_leave_no_circle(lab: Lab) -> None:
    """Reference counts alone free a connection and its groups, closed or not."""
    with lab.side(True) as server, lab.side(False) as client:
        link = Link(server, client).establish()
        before = live_objects()
        gc.disable()
        try:
            groups = [link.conn.new_group(Waiter()) for _ in range(3)]
            groups[0].close()
            assert live_objects()["groups"] == before["groups"] + 3
            link.conn.close(0)
            link.run(lambda link=link: link.near.closed and link.far.closed)
            groups[1].close()
            server.handlers.clear()
            del link, groups
            assert live_objects()["groups"] == before["groups"]
            assert live_objects()["connections"] == before["connections"] - 2
        finally:
            gc.enable()


UNCLOSED = """
    import gc, socket, sys, time, warnings
    warnings.simplefilter("always")
    from pywebtransport._quic import QuicEndpoint, QuicTls
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    class Handler:
        def __getattr__(self, name):
            raise AssertionError("called out of the garbage collector: " + name)
    endpoint = QuicEndpoint(
        is_server=False, settings={{}}, tls=QuicTls(is_server=False, alpn=["h3"]), accept=None,
        schedule_flush=lambda: None, on_error=print,
    )
    quic = endpoint.add_socket(sock.fileno())
    if {connect}:
        conn = endpoint.connect(quic, sock.getsockname(), server_name="localhost",
                                handler=Handler(), now=time.monotonic_ns())
        stream = conn.open_stream(False) if {stream} else None
        del conn, stream
    del endpoint, quic
    gc.collect()
    sock.close()
    print("survived")
"""


@pytest.mark.parametrize("connect", [False, True])
def test_unclosed_endpoint_warns_and_calls_nothing(connect: bool) -> None:
    code = textwrap.dedent(UNCLOSED.format(connect=connect, stream=False))
    result = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", code],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == "survived\n"
    assert "ResourceWarning: unclosed <QuicEndpoint client" in result.stderr


def test_failed_endpoint_is_no_resource(lab: Lab) -> None:
    with pytest.raises(ConfigurationError):
        QuicEndpoint(
            is_server=False,
            settings={"no_such_setting": 1},
            tls=None,
            accept=None,
            schedule_flush=lambda: None,
            on_error=print,
        )
    gc.collect()


def test_client_without_a_tls_configuration_takes_one_per_connection(lab: Lab) -> None:
    with lab.side(True) as server:
        client = Side(is_server=False, tls=None)
        try:
            client.add_socket()
            handler = Recorder()
            conn = client.endpoint.connect(
                client.quic_socket,
                server.address,
                server_name="localhost",
                handler=handler,
                now=time.monotonic_ns(),
                tls=lab.client_tls,
            )
            run((server, client), lambda: handler.handshakes)
            assert repr(conn).endswith("open>")
        finally:
            client.close()
