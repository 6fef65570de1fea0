"""The client's end of a WebSocket: asks for the upgrade, and checks the answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, TypeAlias

from .._header_map import HeaderMap
from ..exceptions import HandshakeError
from ..utils._text import printable
from .websocket import LinkOptions, WebSocketLink, fields_of, is_own_field, quiet, write_head

if TYPE_CHECKING:
    from websockets.client import ClientProtocol
    from websockets.http11 import Response

__all__ = ["ClientLink", "OnAnswer"]

# Bytes of an answer that is no upgrade, with the page that explains it.
_MAX_ANSWER: Final = 256 * 1024

OnAnswer: TypeAlias = Callable[[int, HeaderMap, str | None], object]
"""Called with the status, the header fields, and the subprotocol if the status is 101."""


class ClientLink(WebSocketLink):
    """The client's end; ``dial`` makes it.

    Args:
        server_name: The name that was asked for in the TLS handshake.
        options: Limits.
    """

    __slots__ = ("_head_size", "_on_answer")

    is_client = True

    def __init__(self, server_name: str = "", options: LinkOptions | None = None) -> None:
        super().__init__(options or LinkOptions())
        self.server_name = server_name
        self._on_answer: OnAnswer | None = None
        self._head_size = 0

    def request(
        self,
        *,
        path: str,
        authority: str,
        headers: HeaderMap,
        subprotocols: Sequence[str],
        on_answer: OnAnswer,
    ) -> None:
        """Ask the server for the upgrade. The caller waits for the answer, and limits the wait.

        Args:
            path: Path with query.
            authority: For the ``host`` header.
            headers: More header fields.
            subprotocols: Those to offer, the best one first.
            on_answer: Called once with the answer. When there is none, or a wrong one, the
                connection hears of its end instead.

        Raises:
            ConfigurationError: A header field cannot be sent.
        """
        uri = self._library.Uri(True, "", 443, "/", "")
        ws = self._library.Client(
            uri,
            subprotocols=list(subprotocols),  # type: ignore[arg-type]
            max_size=self._options.max_record_size,
            logger=quiet,
        )
        own = [line for line in ws.connect().headers.raw_items() if line[0] != "Host"]
        head = write_head(f"GET {path} HTTP/1.1", [("Host", authority), *own, *headers.lines])
        self._ws, self._on_answer = ws, on_answer
        self._write([head])

    def _receive_head(self, data: bytes) -> None:
        ws, on_answer = self._ws, self._on_answer
        if self._is_discarding:
            return
        if ws is None or on_answer is None:
            self._refuse("it sent bytes before there was a request")
            return
        assert isinstance(ws, self._library.Client)
        self._head_size += len(data)
        ws.receive_data(data)
        problem = ws.handshake_exc
        response = self._response_of(ws)
        if response is not None:
            self._take_answer(ws, response, on_answer)
        elif problem is not None:
            self._refuse(f"{printable(problem.__cause__ or problem)}")
        elif self._head_size > _MAX_ANSWER:
            self._refuse(f"it has more than {_MAX_ANSWER} bytes")

    def eof_received(self) -> bool:
        """The peer sends nothing more: an answer without a length is complete now."""
        ws, on_answer = self._ws, self._on_answer
        if ws is not None and on_answer is not None and not self._is_discarding:
            assert isinstance(ws, self._library.Client)
            ws.receive_eof()
            response = self._response_of(ws)
            if response is not None:
                self._take_answer(ws, response, on_answer)
        return super().eof_received()

    def _take_answer(self, ws: ClientProtocol, response: Response, on_answer: OnAnswer) -> None:
        """The answer is complete."""
        problem = ws.handshake_exc
        self._on_answer = None
        if response.status_code != HTTPStatus.SWITCHING_PROTOCOLS:
            self._is_discarding = True
            headers = _headers_of(response)
            on_answer(response.status_code, headers, None)
            self.abort()
        elif problem is not None:
            self._refuse(printable(problem))
        elif ws.subprotocol is None:
            self._refuse("it selects none of the subprotocols that were offered")
        else:
            self._opened()
            headers = _headers_of(response)
            on_answer(response.status_code, headers, ws.subprotocol)
            self._take(ws)

    def _response_of(self, ws: ClientProtocol) -> Response | None:
        """The answer, if it is complete; frames that came with it stay in the library."""
        if not ws.events:
            return None
        response = ws.events.pop(0)
        assert isinstance(response, self._library.Response)
        return response

    def _refuse(self, reason: str) -> None:
        """End it because the answer to the upgrade request is wrong."""
        self._tell_closed(
            HandshakeError(
                f"the server's answer to the WebSocket request is wrong: {reason}",
                handshake_stage="websocket",
            )
        )
        self.abort()


def _headers_of(response: Response) -> HeaderMap:
    return HeaderMap((name, value) for name, value in fields_of(response) if not is_own_field(name))
