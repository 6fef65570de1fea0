"""What runs in the middle of a call: the garbage collector, threads, forks, buffers with code."""

from __future__ import annotations

import gc
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from pywebtransport.exceptions import ConnectionError, DatagramTooLargeError, StreamError

from .harness import Lab, Link, Side


class Trash:
    """An unreachable cycle whose finalizer runs wherever the collector comes by."""

    def __init__(self, action: Callable[[], None]) -> None:
        self.me = self
        self.action = action

    def __del__(self) -> None:
        self.action()


def close_endpoint(side: Side) -> None:
    side.endpoint.close()


def close_socket(side: Side) -> None:
    side.quic_socket.close()


def close_connection(side: Side) -> None:
    for handler in side.handlers:
        assert handler.quic is not None
        handler.quic.close(0)


def reset_streams(side: Side) -> None:
    for handler in side.handlers:
        for stream in handler.streams:
            stream.reset(1)
            stream.stop_sending(1)


def fill(link: Link) -> None:
    """Packets with many streams and datagrams are on their way to the server."""
    for _ in range(40):
        stream = link.conn.open_stream(False)
        if stream is None:
            break
        stream.write(b"x" * 100)
        link.conn.send_datagram(b"", b"y" * 100)
    link.client.endpoint.process(time.monotonic_ns())


@pytest.mark.parametrize("action", [close_endpoint, close_socket, close_connection, reset_streams])
@pytest.mark.parametrize("young", [*range(1, 30), 45, 80])
def test_the_garbage_collector_may_come_by_in_any_callback(
    lab: Lab, action: Callable[[Side], None], young: int
) -> None:
    """On Python 3.11 it does so when an object is made, so also below the engine."""
    thresholds = gc.get_threshold()
    done: list[bool] = []
    with lab.link() as link:
        side = link.server

        def act() -> None:
            done.append(True)
            action(side)

        gc.collect()
        fill(link)
        quic = side.quic_socket
        try:
            Trash(act)
            gc.set_threshold(gc.get_count()[0] + young, 1000, 1000)
            while not done and not side.endpoint.is_closed:
                if not side.endpoint.receive(quic, time.monotonic_ns()):
                    break
                # Packets that exceed the share of a turn wait for it.
                side.endpoint.process(time.monotonic_ns())
            side.endpoint.process(time.monotonic_ns())
        finally:
            gc.set_threshold(*thresholds)
        gc.collect()
        assert done
        side.endpoint.process(time.monotonic_ns())
        if action is close_endpoint:
            assert side.endpoint.is_closed
            assert link.far.closed is not None


def test_an_endpoint_may_be_closed_by_another_thread_while_it_receives(lab: Lab) -> None:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(150):
            with lab.link() as link:
                fill(link)
                side = link.server
                quic = side.quic_socket
                begin = threading.Event()

                def close(side: Side = side, begin: threading.Event = begin) -> None:
                    begin.wait()
                    side.endpoint.close()

                thread = threading.Thread(target=close)
                thread.start()
                begin.set()
                side.endpoint.receive(quic, time.monotonic_ns())
                thread.join()
                assert side.endpoint.is_closed
                assert not side.endpoint.receive(quic, time.monotonic_ns())
    finally:
        sys.setswitchinterval(interval)


def test_an_endpoint_may_be_closed_where_it_writes_its_log(lab: Lab) -> None:
    """Calls outside of a turn log as well; the collector may come by there too."""
    closed: list[bool] = []
    with lab.link(client={"log": lambda line: None}) as link:
        side = link.client
        streams = [link.conn.open_stream(False) for _ in range(20)]
        thresholds = gc.get_threshold()
        try:
            Trash(lambda: (closed.append(True), side.endpoint.close())[0])
            gc.set_threshold(gc.get_count()[0] + 2, 1000, 1000)
            for stream in streams:
                if stream is not None:
                    stream.write(b"x")
                    stream.reset(1)
        except (StreamError, ConnectionError):
            pass  # the endpoint was closed between two calls
        finally:
            gc.set_threshold(*thresholds)
        gc.collect()
        assert closed
        assert side.endpoint.is_closed
        side.endpoint.process(time.monotonic_ns())
        assert link.near.closed is not None


def test_a_forked_process_cannot_use_the_keys_of_its_parent(lab: Lab) -> None:
    files = lab.certs.server.files
    program = textwrap.dedent(
        f"""
        import os, time
        from pywebtransport._quic import QuicEndpoint, QuicTls
        from pywebtransport.exceptions import ConnectionError

        tls = QuicTls(is_server=True, alpn=("h3",), **{files!r})
        endpoint = QuicEndpoint(is_server=True, settings={{}}, tls=tls, accept=lambda c: None,
                                schedule_flush=lambda: None, on_error=print)
        endpoint.process(time.monotonic_ns())
        child = os.fork()
        if child == 0:
            try:
                endpoint.process(time.monotonic_ns())
            except ConnectionError as error:
                print(error, flush=True)
                endpoint.close()
                os._exit(7)
            os._exit(1)
        _, status = os.waitpid(child, 0)
        endpoint.process(time.monotonic_ns())
        endpoint.close()
        print("child", os.waitstatus_to_exitcode(status))
        """
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    assert "is a fork; make endpoints, clients and servers after forking" in done.stdout
    assert done.stdout.endswith("child 7\n")


class Exporter:
    """A buffer whose release runs code (PEP 688)."""

    def __init__(self, size: int, released: Callable[[], object]) -> None:
        self.data = bytearray(size)
        self.released = released

    def __buffer__(self, flags: int) -> memoryview:
        return memoryview(self.data)

    def __release_buffer__(self, view: memoryview) -> None:
        view.release()
        self.released()


if sys.version_info >= (3, 12):  # before, no buffer can be made in Python

    def test_a_buffer_may_use_the_stream_when_it_is_released(lab: Lab) -> None:
        with lab.link() as link:
            near, far = link.open(b"0123456789")
            again: list[Any] = []
            exporter: Any = Exporter(4, lambda: again.append(far.read(3)))
            assert far.readinto(exporter) == 4
            assert (bytes(exporter.data), again) == (b"0123", [b"456"])
            assert far.read() == b"789"

            exporter = Exporter(5, lambda: near.write(b"inner"))
            near.write(exporter)
            link.run(lambda: far.buffered == 10)
            assert far.read() == b"\0" * 5 + b"inner"

            exporter = Exporter(5, lambda: link.client.endpoint.close())
            near.write(exporter, True)
            assert link.near.closed is not None

    def test_a_buffer_may_close_the_connection_when_a_datagram_takes_it(lab: Lab) -> None:
        with lab.link() as link:
            exporter: Any = Exporter(70_000, lambda: link.conn.abandon())
            with pytest.raises(DatagramTooLargeError):
                link.conn.send_datagram(b"", exporter)
            assert link.near.closed is not None
