"""One server of a fleet: a chat whose rooms span all of them, with metrics and health checks.

    BUS=nats://localhost:4222 PORT=4433 METRICS_PORT=9464 python examples/fleet/fleet_server.py

BUS is the URL of a NATS or Redis server, or several with commas. Without CERTFILE and KEYFILE, the
server makes a certificate and prints its hash. ``compose.yaml`` and ``kubernetes.yaml`` start three
of these. The rooms are open to clients that use ``PubSubManager``.
"""

import os
import sys
import tempfile

from pywebtransport import ServerApp, ServerConfig, WebTransportError, WebTransportSession
from pywebtransport.events import EventBackend, NatsBackend, RedisBackend
from pywebtransport.monitoring import Metrics, MetricsEndpoint
from pywebtransport.pubsub import Broker
from pywebtransport.server import echo_handler
from pywebtransport.utils import certificate_hash, generate_self_signed_cert


def bus(urls: str) -> EventBackend:
    """The bus that BUS names."""
    servers = urls.split(",")
    return NatsBackend(servers) if servers[0].startswith("nats") else RedisBackend(urls=servers)


def may(session: WebTransportSession, action: str, topic: str) -> bool:
    """Everybody may use a single room; other topics and patterns are forbidden."""
    return topic.startswith("rooms.") and "*" not in topic


def make_app(config: ServerConfig) -> ServerApp:
    """The chat, the echo that ``pywebtransport bench`` needs, and the metrics."""
    app = ServerApp(config=config)
    broker = Broker(bus(os.environ.get("BUS", "nats://localhost:4222")), authorize=may)
    app.on_startup(broker.start)
    app.on_shutdown(broker.close)

    @app.on_startup
    async def export() -> None:
        host = os.environ.get("METRICS_HOST", "127.0.0.1")
        port = int(os.environ.get("METRICS_PORT", "9464"))
        endpoint = MetricsEndpoint(Metrics(app), host=host, port=port)
        await endpoint.start()
        app.on_shutdown(endpoint.close)
        print(f"metrics at {endpoint.url}", flush=True)

    @app.route("/chat")
    async def chat(session: WebTransportSession) -> None:
        await broker.serve(session)

    app.route("/echo")(echo_handler)
    return app


def main() -> None:
    """Serve until SIGTERM: then clients have DRAIN seconds to find another server."""
    host, port = os.environ.get("HOST", "localhost"), int(os.environ.get("PORT", "4433"))
    certfile, keyfile = os.environ.get("CERTFILE", ""), os.environ.get("KEYFILE", "")
    with tempfile.TemporaryDirectory() as directory:
        if not certfile:
            certfile, keyfile = generate_self_signed_cert(
                hostname="localhost", output_dir=directory
            )
        config = ServerConfig(
            certfile=certfile,
            keyfile=keyfile,
            quic_lb_server_id=os.environ.get("QUIC_LB_SERVER_ID") or None,
            shared_secret=os.environ.get("SHARED_SECRET") or None,
            drain_timeout=float(os.environ.get("DRAIN", "10")),
        )
        app = make_app(config)
        print(f"https://localhost:{port}/chat {certificate_hash(certfile).hex()}", flush=True)
        app.run(host=host, port=port)


if __name__ == "__main__":
    try:
        main()
    except WebTransportError as error:
        sys.exit(f"error: {error}")
