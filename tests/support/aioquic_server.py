"""aioquic as an HTTP/3 server like its example: GET, and WebTransport at ``/wt`` if wanted."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aioquic.asyncio import QuicConnectionProtocol, serve
from aioquic.h3.connection import H3Connection
from aioquic.h3.events import HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ProtocolNegotiated, QuicEvent

__all__ = ["aioquic_http3_server"]


class _Protocol(QuicConnectionProtocol):
    webtransport = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._http: H3Connection | None = None

    def quic_event_received(self, event: QuicEvent) -> None:
        if isinstance(event, ProtocolNegotiated) and event.alpn_protocol == "h3":
            self._http = H3Connection(self._quic, enable_webtransport=self.webtransport)
        if self._http is None:
            return
        for item in self._http.handle_event(event):
            if isinstance(item, HeadersReceived):
                headers = dict(item.headers)
                session = headers.get(b":protocol") == b"webtransport"
                known = headers[b":path"] == (b"/wt" if session else b"/")
                status = b"200" if known else b"404"
                self._http.send_headers(
                    item.stream_id,
                    [(b":status", status), (b"sec-webtransport-http3-draft", b"draft02")],
                    end_stream=not (session and known),
                )
        self.transmit()


class _PlainProtocol(_Protocol):
    webtransport = False


@contextmanager
def aioquic_http3_server(
    certfile: str, keyfile: str, *, webtransport: bool = True, alpn: str = "h3"
) -> Iterator[int]:
    """Serve from a thread on 127.0.0.1 while the block runs; yields the port.

    Args:
        certfile: PEM file of its certificate.
        keyfile: PEM file of the key.
        webtransport: Whether it offers WebTransport (draft-02).
        alpn: The application protocol that it offers.
    """
    configuration = QuicConfiguration(
        is_client=False, alpn_protocols=[alpn], max_datagram_frame_size=65536
    )
    configuration.load_cert_chain(certfile, keyfile)
    ready = threading.Event()
    found: dict[str, Any] = {}

    async def main() -> None:
        server = await serve(
            "127.0.0.1",
            0,
            configuration=configuration,
            create_protocol=_Protocol if webtransport else _PlainProtocol,
        )
        transport = server._transport
        found["port"] = transport.get_extra_info("sockname")[1]
        found["loop"] = asyncio.get_running_loop()
        found["stop"] = asyncio.Event()
        ready.set()
        await found["stop"].wait()
        server.close()

    def run() -> None:
        try:
            asyncio.run(main())
        finally:
            ready.set()

    thread = threading.Thread(target=run, name="aioquic server")
    thread.start()
    try:
        ready.wait()
        yield found["port"]
    finally:
        if "stop" in found:
            found["loop"].call_soon_threadsafe(found["stop"].set)
        thread.join()
