"""Fields of the configurations have names and types, wherever they are given."""

import ssl
from pathlib import Path
from typing import assert_type

import pywebtransport
from pywebtransport import ClientConfig, ServerApp, ServerConfig, WebTransportSession

HASH = bytes(32)


async def handler(session: WebTransportSession) -> None:
    """Serves nothing."""


def right_client() -> None:
    config = ClientConfig.create(
        application_protocols=("chat-2", "chat-1"),
        ca_certs=Path("ca.pem"),
        connect_timeout=5,
        headers={"x-room": "1", "cookie": ["a=1", "b=2"]},
        server_certificate_hashes=[HASH, HASH.hex(), {"algorithm": "sha-256", "value": HASH}],
        verify_mode=ssl.CERT_REQUIRED,
    )
    assert_type(config, ClientConfig)
    assert_type(config.update(max_streams=5), ClientConfig)
    ClientConfig(server_certificate_hashes=(HASH.hex(), HASH))


def right_server() -> None:
    config = ServerConfig.create(
        certfile=Path("a.crt"), keyfile="a.key", max_sessions_per_address="auto"
    )
    assert_type(config, ServerConfig)
    assert_type(config.update(workers=2), ServerConfig)


def wrong_names() -> None:
    ClientConfig.create(connect_timout=5)  # type: ignore[call-arg]
    ClientConfig.create().update(bind_port=5)  # type: ignore[call-arg]
    ClientConfig(connect_timout=5)  # type: ignore[call-arg]
    ServerConfig.create(certificate="a.crt")  # type: ignore[call-arg]
    ServerConfig.create().update(connect_timeout=5)  # type: ignore[call-arg]
    pywebtransport.connect("https://a.example/", headrs={})  # type: ignore[call-arg]
    pywebtransport.serve(handler, certificate="a.crt")  # type: ignore[call-arg]


def wrong_types() -> None:
    ClientConfig.create(connect_timeout="5")  # type: ignore[arg-type]
    ClientConfig.create(server_certificate_hashes=[5])  # type: ignore[list-item]
    ServerConfig.create(allowed_origins=5)  # type: ignore[arg-type]
    pywebtransport.connect("https://a.example/", max_streams="5")  # type: ignore[arg-type]


async def wrong_names_of_an_application(app: ServerApp) -> None:
    await app.serve(host="localhost", prt=5)  # type: ignore[call-arg]
    await app.listen(certificate="a.crt")  # type: ignore[call-arg]
    app.run(worker=5)  # type: ignore[call-arg]
