"""An endpoint whose packets go through a tunnel instead of a UDP socket."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from .._quic import QuicTls
from ..exceptions import ConnectionError
from .endpoint import Endpoint, UdpSocket
from .resolve import RemoteAddress

__all__ = ["TunnelEndpoint"]


class TunnelEndpoint(Endpoint):
    """A client endpoint with one connection and no socket.

    The owner of the tunnel calls ``packets_received`` with packets from the tunnel,
    and ``writable`` when ``send`` may succeed again. While ``send`` returns False,
    at most one turn's packets wait here, and the rest wait in the engine.

    Args:
        send: Sends one packet; returns False if the tunnel has no room now.
        local: Address that the connection reports as its own.
        settings: As for ``Endpoint``.
        tls: TLS configuration.
        on_close: Called once, when the endpoint was closed.
        **switches: ``on_error``, ``keylog``, ``qlog``, ``log`` of ``Endpoint``.
    """

    def __init__(
        self,
        *,
        send: Callable[[bytes], bool],
        local: tuple[str, int],
        settings: dict[str, Any],
        tls: QuicTls,
        on_close: Callable[[], object],
        **switches: Any,
    ) -> None:
        self._send = send
        self._local = local
        self._on_close: Callable[[], object] | None = on_close
        self._backlog: deque[bytes] = deque()
        super().__init__(
            is_server=False, settings=settings, tls=tls, packets_out=self._packets_out, **switches
        )

    def _origin(self, remote: RemoteAddress, udp: UdpSocket | None) -> tuple[None, tuple[str, int]]:
        return None, self._local

    def open_socket(self, family: int, local: tuple[Any, ...] | None = None) -> UdpSocket:
        """Refuse: the connection cannot leave its tunnel.

        Raises:
            ConnectionError: Always.
        """
        raise ConnectionError(
            "a connection through a proxy cannot migrate; migrate the connection to the proxy"
        )

    def packets_received(self, packets: list[bytes]) -> None:
        """Packets arrived through the tunnel."""
        if not self._closed:
            self._quic.receive_packets(packets, self._now())
        if not self._closed:
            self._settle()

    def writable(self) -> None:
        """The tunnel has room again."""
        if not self._closed and self._push():
            self._on_writable()

    def close(self) -> None:
        """As ``Endpoint.close``; then ``on_close`` is called."""
        super().close()
        on_close, self._on_close = self._on_close, None
        if on_close is not None:
            self._backlog.clear()
            on_close()

    def _packets_out(self, packets: list[bytes]) -> None:
        self._backlog += packets
        if not self._push():
            self._quic.block()

    def _push(self) -> bool:
        """Send waiting packets; return False if the tunnel has no room."""
        backlog = self._backlog
        while backlog:
            if not self._send(backlog[0]):
                return False
            backlog.popleft()
        return True

    def _watch_writable(self) -> None:
        """Do nothing: the tunnel calls ``writable``."""
