"""One server on one processor: ``python -m tests.benchmark.asgi.serve OPTIONS`` (JSON).

Prints ``ready`` when it listens, or when the rest of its start is up to the server's own program.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from ..growth import loop_factories
from .applications import bare, starlette, stream_bodies

__all__ = ["APPLICATIONS", "main"]

APPLICATIONS = {"bare": lambda: bare, "starlette": starlette}


async def _ours(app: Any, options: dict[str, Any]) -> None:
    from pywebtransport import ServerApp, ServerConfig

    config = ServerConfig(
        bind_host="127.0.0.1",
        bind_port=options["port"],
        certfile=options["certfile"],
        keyfile=options["keyfile"],
        access_log=False,
        max_connections_per_address=None,
        max_sessions_per_address=None,
    )
    server = ServerApp(config=config)
    server.route("/session")(stream_bodies)
    server.mount(app, tcp=False)
    async with server:
        await server.listen()
        print("ready", flush=True)
        await asyncio.Event().wait()


async def _hypercorn(app: Any, options: dict[str, Any]) -> None:
    from hypercorn.asyncio import serve
    from hypercorn.config import Config

    config = Config()
    address = f"127.0.0.1:{options['port']}"
    config.bind = [address]
    if options["version"] == "3":
        config.quic_bind = [address]
    config.certfile, config.keyfile = options["certfile"], options["keyfile"]
    config.errorlog = None
    config.graceful_timeout = 0.0
    print("ready", flush=True)
    await serve(app, config, mode="asgi")


async def _uvicorn(app: Any, options: dict[str, Any]) -> None:
    import uvicorn

    config = uvicorn.Config(
        app,
        port=options["port"],
        ssl_certfile=options["certfile"],
        ssl_keyfile=options["keyfile"],
        http="httptools",
        log_config=None,
        access_log=False,
    )
    print("ready", flush=True)
    await uvicorn.Server(config).serve()


def _granian(options: dict[str, Any]) -> None:
    from granian import Granian
    from granian.constants import HTTPModes, Interfaces, Loops

    print("ready", flush=True)
    Granian(
        f"tests.benchmark.asgi.serve:{options['application']}",
        address="127.0.0.1",
        port=options["port"],
        interface=Interfaces.ASGI,
        loop=Loops(options["loop"]),
        http=HTTPModes.http1 if options["version"] == "1.1" else HTTPModes.http2,
        ssl_cert=Path(options["certfile"]),
        ssl_key=Path(options["keyfile"]),
        log_enabled=False,
    ).serve()


_SERVERS = {"ours": _ours, "hypercorn": _hypercorn, "uvicorn": _uvicorn}


def main() -> None:
    """Serve until the process is ended."""
    options = json.loads(sys.argv[1])
    os.sched_setaffinity(0, {options["processor"]})
    if options["server"] == "granian":
        _granian(options)
        return
    app = APPLICATIONS[options["application"]]()
    with asyncio.Runner(loop_factory=loop_factories()[options["loop"]]) as runner:
        runner.run(_SERVERS[options["server"]](app, options))


def __getattr__(name: str) -> Any:
    """For granian, which imports the application by its name."""
    if name in APPLICATIONS:
        return APPLICATIONS[name]()
    raise AttributeError(name)


if __name__ == "__main__":
    main()
