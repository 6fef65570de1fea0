"""A server and a client behind a firewall: ``python -m tests.support.firewall_process OPTIONS``.

It runs in a network namespace of its own. OPTIONS is a JSON object: ``certfile`` and ``keyfile`` of
the server, ``ca_certs``, and ``rule``, what nftables is to do with UDP packets. It opens sessions
one after the other, and prints the transport of each, and the statistics of the client: two
sessions behind the firewall, and one of another client after its end.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from typing import Any

from pywebtransport import ClientConfig, ServerApp, ServerConfig, WebTransportClient
from pywebtransport.server import echo_handler

PORT = 4433
URL = f"https://127.0.0.1:{PORT}/"
_CHAIN = "add table ip t; add chain ip t c { type filter hook %s priority 0; }; add rule ip t c %s"


async def open_sessions(config: ClientConfig, count: int) -> dict[str, Any]:
    """Open sessions, use and close each; returns what was found."""
    found = []
    async with WebTransportClient(config=config) as client:
        for _ in range(count):
            session = await client.connect(URL)
            stream = await session.create_bidirectional_stream()
            await stream.write_all(b"hello")
            assert await stream.read_all() == b"hello"
            found.append(session.transport)
            await session.close()
        return {"transports": found, "stats": client.stats["transports"]}


async def main(options: dict[str, str]) -> None:
    """Run the server and the clients."""
    files = {name: options[name] for name in ("certfile", "keyfile")}
    app = ServerApp(config=ServerConfig(bind_port=PORT, websocket=True, **files))
    app.router.set_default_handler(echo_handler)
    config = ClientConfig(fallback="websocket", ca_certs=options["ca_certs"])
    async with app:
        await app.listen(host="127.0.0.1")
        hook, _, rule = options["rule"].partition(" ")
        _nft(_CHAIN % (hook, f"meta l4proto udp {rule}"))
        print(json.dumps(await open_sessions(config, 2)))
        _nft("flush ruleset")
        # However slow this machine is, QUIC has the time that it needs.
        print(json.dumps(await open_sessions(config.update(fallback_delay=1000.0), 1)))


def _nft(commands: str) -> None:
    subprocess.run(["nft", commands], check=True)


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
