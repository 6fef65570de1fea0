"""What differs between the three servers, and why each difference is right."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["ALL", "DIFFERENCES", "ON_TCP", "Difference", "table"]

ALL = "every request"


@dataclass(frozen=True)
class Difference:
    """One fact that is not the same everywhere.

    Attributes:
        group: "http" or "websocket".
        cases: Names of requests, or ``ALL``.
        fact: What differs.
        values: On uvicorn, hypercorn, and this server.
        reason: Why that is right.
    """

    group: str
    cases: tuple[str, ...]
    fact: str
    values: tuple[str, str, str]
    reason: str


_OVERTAKEN = (
    "RESET_STREAM may overtake what was sent before it (RFC 9000 section 3.2); in no case does the "
    "client take a part for the whole"
)
_NO_PAGE = "the body of such an answer is up to the server; this one sends none"
_OWN_CLASS = "ASGI asks for an error; only its class is the server's own"

DIFFERENCES = (
    Difference(
        "http",
        (ALL,),
        "scope: asgi",
        (
            "['3.0', '2.3']",
            "['3.0', '2.1']",
            "['3.0', '2.4']",
        ),
        "2.4 promises that sending to a client that has left raises OSError",
    ),
    Difference(
        "http",
        (ALL,),
        "scope: http_version",
        ("'1.1'", "'2'", "'3'"),
        "the versions that are compared",
    ),
    Difference(
        "http",
        (ALL,),
        "scope: extensions",
        (
            "absent",
            "['http.response.early_hint', 'http.response.push', 'http.response.trailers']",
            "['http.response.early_hint', 'http.response.pathsend', 'http.response.trailers', "
            "'tls']",
        ),
        "browsers no longer accept pushed responses; files and TLS are extras of this server",
    ),
    Difference(
        "http",
        (ALL,),
        "name of the server",
        ("True", "True", "False"),
        "the field `server` is optional; your application can send it",
    ),
    Difference(
        "http",
        ("a method of the user's own",),
        "application called",
        ("False", "True", "True"),
        "httptools knows a list of methods; HTTP/2 and HTTP/3 have none",
    ),
    Difference(
        "http", ("a method of the user's own",), "status", ("400", "200", "200"), "the same"
    ),
    Difference(
        "http",
        ("a method of the user's own",),
        "response's fields",
        (
            "[b'content-length: 30', b'content-type: text/plain; charset=utf-8']",
            "[b'content-length: 6', b'content-type: text/plain']",
            "[b'content-length: 6', b'content-type: text/plain']",
        ),
        "the same",
    ),
    Difference(
        "http",
        ("a method of the user's own",),
        "body",
        ("b'Invalid HTTP request received.'", r"b'hello\n'", r"b'hello\n'"),
        "the same",
    ),
    Difference(
        "http",
        ("PUT of unknown length",),
        "scope: headers",
        (
            "[(b'host', b'localhost:PORT'), (b'transfer-encoding', b'chunked')]",
            "[(b'host', b'localhost:PORT')]",
            "[(b'host', b'localhost:PORT')]",
        ),
        "chunked bodies are a matter of HTTP/1.1",
    ),
    Difference(
        "http",
        ("Expect: 100-continue",),
        "statuses before",
        ("[100]", "[]", "[100]"),
        "hypercorn leaves the client waiting, until it sends the body by itself after a second",
    ),
    Difference(
        "http",
        ("fields of a connection",),
        "response's fields",
        (
            "[b'keep-alive: timeout=5', b'x-after: 1']",
            "[b'x-after: 1']",
            "[b'x-after: 1']",
        ),
        "HTTP/2 and HTTP/3 forbid such fields (RFC 9114 section 4.2): they are left out",
    ),
    Difference(
        "http",
        ("103",),
        "statuses before",
        ("[]", "[103]", "[103]"),
        "uvicorn does not offer the extension",
    ),
    Difference(
        "http",
        ("trailers",),
        "trailers",
        ("[]", "[(b'x-sum', b'9')]", "[(b'x-sum', b'9')]"),
        "uvicorn does not offer the extension",
    ),
    Difference(
        "http",
        ("after the response",),
        "events",
        (
            "['a body of 0 bytes', 'http.disconnect', 'http.disconnect']",
            "['a body of 0 bytes', 'http.disconnect', 'nothing more']",
            "['a body of 0 bytes', 'http.disconnect', 'http.disconnect']",
        ),
        "an application that asks again must not wait for ever",
    ),
    Difference(
        "http",
        ("client leaves",),
        "send raised",
        ("[]", "[]", "['OSError']"),
        "the rule of version 2.4",
    ),
    Difference(
        "http",
        ("no response", "error before the response"),
        "response's fields",
        (
            "[b'content-length: 21', b'content-type: text/plain; charset=utf-8']",
            "[b'content-length: 0']",
            "[b'content-length: 0']",
        ),
        _NO_PAGE,
    ),
    Difference(
        "http",
        ("no response", "error before the response"),
        "body",
        ("b'Internal Server Error'", "b''", "b''"),
        _NO_PAGE,
    ),
    Difference(
        "http",
        (
            "error within the response",
            "response shorter than it says",
            "response longer than it says",
        ),
        "status",
        ("200", "200", "0"),
        _OVERTAKEN,
    ),
    Difference(
        "http",
        ("error within the response",),
        "response's fields",
        ("[b'content-type: text/plain']", "[b'content-type: text/plain']", "absent"),
        _OVERTAKEN,
    ),
    Difference(
        "http",
        ("error within the response",),
        "body",
        ("b'begun'", "b'begun'", "b''"),
        _OVERTAKEN,
    ),
    Difference(
        "http",
        ("response shorter than it says",),
        "response's fields",
        ("[b'content-length: 10']", "[b'content-length: 10']", "absent"),
        _OVERTAKEN,
    ),
    Difference(
        "http",
        ("response shorter than it says",),
        "body",
        ("b'short'", "b'short'", "b''"),
        _OVERTAKEN,
    ),
    Difference(
        "http",
        ("response longer than it says",),
        "response's fields",
        ("[b'content-length: 2']", "[b'content-length: 2']", "absent"),
        _OVERTAKEN,
    ),
    Difference(
        "http",
        ("response shorter than it says", "response longer than it says"),
        "send raised",
        ("['RuntimeError']", "[]", "['RuntimeError']"),
        "hypercorn sends it, and its connection breaks",
    ),
    Difference(
        "http",
        ("newline in a field",),
        "status",
        ("0", "200", "500"),
        "nothing was sent yet, so this server can still say that the application failed",
    ),
    Difference(
        "http", ("newline in a field",), "libcurl's error", ("True", "True", "False"), "the same"
    ),
    Difference(
        "http",
        ("newline in a field",),
        "send raised",
        ("['RuntimeError']", "[]", "['RuntimeError']"),
        "hypercorn sends it, and its connection breaks",
    ),
    Difference(
        "http",
        ("newline in a field",),
        "response's fields",
        ("absent", "absent", "[b'content-length: 0']"),
        "the same",
    ),
    Difference(
        "http",
        ("response begun twice", "unknown event"),
        "send raised",
        ("['RuntimeError']", "['UnexpectedMessageError']", "['RuntimeError']"),
        _OWN_CLASS,
    ),
    Difference(
        "websocket",
        (ALL,),
        "scope: asgi",
        ("['3.0', '2.4']", "['3.0', '2.3']", "['3.0', '2.4']"),
        "2.4 promises that sending to a client that has left raises OSError",
    ),
    Difference(
        "websocket",
        (ALL,),
        "scope: http_version",
        ("'1.1'", "'2'", "'3'"),
        "the versions that are compared",
    ),
    Difference(
        "websocket",
        (ALL,),
        "scope: extensions",
        (
            "['websocket.http.response']",
            "['websocket.http.response']",
            "['tls', 'websocket.http.response']",
        ),
        "an extra of this server",
    ),
    Difference(
        "websocket",
        (ALL,),
        "scope: headers",
        (
            "[(b'host', b'localhost'), (b'upgrade', b'websocket'), (b'connection', b'Upgrade'), "
            "(b'sec-websocket-key', b'KEY'), (b'sec-websocket-version', b'13'), "
            "(b'origin', b'https://example.org')]",
            "[(b'host', b'localhost'), (b'sec-websocket-version', b'13'), "
            "(b'sec-websocket-protocol', b'one, two'), (b'origin', b'https://example.org')]",
            "[(b'host', b'localhost'), (b'sec-websocket-version', b'13'), "
            "(b'sec-websocket-protocol', b'one, two'), (b'origin', b'https://example.org')]",
        ),
        "HTTP/2 and HTTP/3 need no upgrade and no key (RFC 8441, RFC 9220); uvicorn removes the "
        "protocols, which are in `subprotocols` everywhere",
    ),
    Difference(
        "websocket",
        ("messages",),
        "events",
        (
            "['websocket.connect', 'text of 5', 'bytes of 2', 'text of 200000', 'text of 0', "
            "\"websocket.disconnect code=3001 reason='bye'\"]",
            "['websocket.connect', 'text of 5', 'bytes of 2', 'text of 200000', 'text of 0', "
            "'websocket.disconnect code=1006']",
            "['websocket.connect', 'text of 5', 'bytes of 2', 'text of 200000', 'text of 0', "
            "\"websocket.disconnect code=3001 reason='bye'\"]",
        ),
        "hypercorn loses the code of the client's close",
    ),
    Difference(
        "websocket",
        ("subprotocol and fields",),
        "events",
        (
            "['websocket.connect', \"websocket.disconnect code=1000 reason=''\"]",
            "['websocket.connect', 'websocket.disconnect code=1006']",
            "['websocket.connect', \"websocket.disconnect code=1000 reason=''\"]",
        ),
        "the same",
    ),
    Difference(
        "websocket",
        ("close by the server",),
        "events",
        (
            "['websocket.connect', \"websocket.disconnect code=4001 reason='enough'\"]",
            "['websocket.connect', 'websocket.disconnect code=1000']",
            "['websocket.connect', \"websocket.disconnect code=4001 reason='enough'\"]",
        ),
        "hypercorn loses the code",
    ),
    Difference(
        "websocket",
        ("close by the server",),
        "send raised",
        ("['RuntimeError']", "[]", "['RuntimeError']"),
        "sending after one's own close is a mistake",
    ),
    Difference(
        "websocket",
        ("broken off",),
        "events",
        (
            "['websocket.connect', 'text of 1', 'websocket.disconnect code=1005']",
            "['websocket.connect', 'text of 1', 'websocket.disconnect code=1006']",
            "['websocket.connect', 'text of 1', \"websocket.disconnect code=1006 reason=''\"]",
        ),
        "1006 stands for the end without a close (RFC 6455 section 7.1.5)",
    ),
    Difference(
        "websocket",
        ("error before accept",),
        "response's fields",
        (
            "[b'content-length: 21', b'content-type: text/plain; charset=utf-8']",
            "[b'content-length: 0']",
            "[b'content-length: 0']",
        ),
        _NO_PAGE,
    ),
    Difference(
        "websocket",
        ("error before accept",),
        "body",
        ("b'Internal Server Error'", "b''", "b''"),
        _NO_PAGE,
    ),
    Difference(
        "websocket",
        ("error after accept",),
        "client got",
        ("(None, (1006, None))", "(None, (1011, ''))", "(None, (1011, 'internal error'))"),
        "1011 is the code for it; uvicorn breaks the connection off",
    ),
    Difference(
        "websocket",
        ("return after accept",),
        "client got",
        ("(None, (1006, None))", "(None, (1011, ''))", "(None, (1000, ''))"),
        "an application that returns is done, as in the scope webtransport",
    ),
)

_RENAMED = {(ALL, "name of the server"): ("True", "False")}
_RAISED = {("client leaves", "send raised"): ("[]", "['OSError']")}
_REFUSED = {
    ("newline in a field", "libcurl's error"): ("True", "False"),
    ("newline in a field", "response's fields"): ("absent", "[b'content-length: 0']"),
}
_PAGE = "[b'content-length: 21', b'content-type: text/plain; charset=utf-8']"
_MESSAGES = "['websocket.connect', 'text of 5', 'bytes of 2', 'text of 200000', 'text of 0'"

# The TCP side of this server differs from the servers that it embeds in this: by group and server,
# the values of those and of this. All responses to requests have ``alt-svc``, besides.
ON_TCP = {
    ("http", "uvicorn"): {
        **_RENAMED,
        **_RAISED,
        **_REFUSED,
        ("a method of the user's own", "response's fields"): (
            "[b'content-length: 30', b'content-type: text/plain; charset=utf-8']",
            "[b'content-length: 0']",
        ),
        ("a method of the user's own", "body"): ("b'Invalid HTTP request received.'", "b''"),
        ("newline in a field", "status"): ("0", "500"),
        ("newline in a field", "send raised"): (
            "['RuntimeError']",
            "['RuntimeError', 'RuntimeError']",
        ),
        ("no response", "response's fields"): (_PAGE, "[b'content-length: 0']"),
        ("no response", "body"): ("b'Internal Server Error'", "b''"),
        ("error before the response", "response's fields"): (_PAGE, "[b'content-length: 0']"),
        ("error before the response", "body"): ("b'Internal Server Error'", "b''"),
    },
    ("http", "hypercorn"): {
        **_RENAMED,
        **_RAISED,
        **_REFUSED,
        ("newline in a field", "status"): ("200", "500"),
        ("newline in a field", "send raised"): ("[]", "['RuntimeError', 'UnexpectedMessageError']"),
        ("after the response", "events"): (
            "['a body of 0 bytes', 'http.disconnect', 'nothing more']",
            "['a body of 0 bytes', 'http.disconnect', 'http.disconnect']",
        ),
        ("error within the response", "body"): ("b'begun'", "b''"),
    },
    ("websocket", "uvicorn"): {
        ("error before accept", "response's fields"): (_PAGE, "[b'content-length: 0']"),
        ("error before accept", "body"): ("b'Internal Server Error'", "b''"),
        ("error after accept", "client got"): ("(None, (1006, None))", "(None, (1011, ''))"),
        ("return after accept", "client got"): ("(None, (1006, None))", "(None, (1000, ''))"),
    },
    ("websocket", "hypercorn"): {
        ("messages", "events"): (
            f"{_MESSAGES}, 'websocket.disconnect code=1006']",
            f"{_MESSAGES}, \"websocket.disconnect code=3001 reason='bye'\"]",
        ),
        ("subprotocol and fields", "events"): (
            "['websocket.connect', 'websocket.disconnect code=1006']",
            "['websocket.connect', \"websocket.disconnect code=1000 reason=''\"]",
        ),
        ("close by the server", "events"): (
            "['websocket.connect', 'websocket.disconnect code=1000']",
            "['websocket.connect', \"websocket.disconnect code=4001 reason='enough'\"]",
        ),
        ("close by the server", "send raised"): ("[]", "['RuntimeError']"),
        ("return after accept", "client got"): ("(None, (1011, ''))", "(None, (1000, ''))"),
    },
}

_FIRST = "| request | what | uvicorn, HTTP/1.1 | hypercorn, HTTP/2 | this, HTTP/3 | why |"


def table() -> str:
    """The differences as Markdown, for the documentation."""
    lines = []
    for group, title in ("http", "Requests"), ("websocket", "WebSockets"):
        lines += [f"**{title}**", "", _FIRST, "|---|---|---|---|---|---|"]
        for entry in DIFFERENCES:
            if entry.group == group:
                values = " | ".join(f"`` {value} ``" for value in entry.values)
                cases = ", ".join(entry.cases)
                lines.append(f"| {cases} | {entry.fact} | {values} | {entry.reason} |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    (Path(__file__).resolve().parents[3] / "docs/topics/one-port-table.inc").write_text(table())
