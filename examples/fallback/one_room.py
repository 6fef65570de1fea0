"""A chat that gets through where UDP is blocked: browsers on HTTP/3 and on TCP in the same rooms.

    npm install --prefix examples/fallback
    python examples/fallback/one_room.py

The page comes from the TCP port with the number of the server's UDP port, and so do the sessions of
browsers that cannot use UDP. Both kinds get the same handler.
"""

import argparse
import json
import mimetypes
import sys
from pathlib import Path
from typing import Any

from pywebtransport import ServerApp, ServerConfig, WebTransportError, WebTransportSession
from pywebtransport.pubsub import Broker
from pywebtransport.utils import certificate_hash, generate_self_signed_cert

HERE = Path(__file__).resolve().parent


def may(session: WebTransportSession, action: str, topic: str) -> bool:
    """Everybody may use a single room; other topics and patterns are forbidden."""
    return topic.startswith("rooms.") and "*" not in topic


class Page:
    """An ASGI application: the page and its scripts, those of @moq/qmux among them."""

    def __init__(self, modules: Path, config: dict[str, str]) -> None:
        self._config = json.dumps(config).encode()
        self._files = {"/": HERE / "index.html"}
        for prefix, directory in (("js", HERE.parent / "js"), ("node_modules", modules)):
            for path in directory.rglob("*.js"):
                self._files[f"/{prefix}/{path.relative_to(directory)}"] = path

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request with a file, or with what the page needs to know."""
        if scope["type"] != "http":
            raise NotImplementedError(scope["type"])
        file = self._files.get(scope["path"])
        status, kind, body = 404, "text/plain", b"no such file"
        if scope["path"] == "/config.json":
            status, kind, body = 200, "application/json", self._config
        elif file is not None:
            status, body = 200, file.read_bytes()
            kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
        headers = [(b"content-type", kind.encode()), (b"cache-control", b"no-store")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def make_app(arguments: argparse.Namespace) -> ServerApp:
    """Create the server."""
    certfile, keyfile = arguments.certfile, arguments.keyfile
    config = {"path": "/chat"}
    if certfile is None:
        certfile, keyfile = generate_self_signed_cert(hostname="localhost")
        config["certificateHash"] = certificate_hash(certfile).hex()
    app = ServerApp(
        config=ServerConfig.create(
            certfile=certfile,
            keyfile=keyfile,
            # WebSockets of browsers carry cookies: other sites must not open sessions.
            allowed_origins=[f"https://{arguments.name}:{arguments.port}"],
            websocket=True,
        )
    )
    broker = Broker(authorize=may)
    app.on_startup(broker.start)
    app.on_shutdown(broker.close)
    app.route("/chat")(broker.serve)
    app.mount(Page(arguments.modules, config), lifespan="off", tcp=True)
    return app


def main() -> None:
    """Parse the command line and serve until interrupted."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--name", default="localhost", help="host name in the address of the page")
    parser.add_argument("--port", type=int, default=4433, help="port number, on UDP and TCP")
    parser.add_argument("--certfile", help="PEM certificate; one for development by default")
    parser.add_argument("--keyfile", help="PEM private key of the certificate")
    parser.add_argument(
        "--modules", type=Path, default=HERE / "node_modules", help="where @moq/qmux is installed"
    )
    arguments = parser.parse_args()
    try:
        app = make_app(arguments)
        print(f"open https://{arguments.name}:{arguments.port}/ in a browser", flush=True)
        app.run(host=arguments.name, port=arguments.port)
    except WebTransportError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
