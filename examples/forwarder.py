"""A forwarder: sessions for /echo are relayed to another server, such as echo_server.py."""

import sys

from pywebtransport import ClientConfig, ServerApp, ServerConfig
from pywebtransport.forwarder import WebTransportForwarder
from pywebtransport.utils import certificate_hash, generate_self_signed_cert


def make_app(upstream: str, upstream_hash: str, certfile: str, keyfile: str) -> ServerApp:
    app = ServerApp(config=ServerConfig.create(certfile=certfile, keyfile=keyfile))
    forwarder = WebTransportForwarder(
        upstream,  # such as https://localhost:4433: the path of the request is kept
        config=ClientConfig.create(
            server_certificate_hashes=[upstream_hash], max_connections=10_000
        ),
    )
    app.route("/echo")(forwarder)
    app.on_shutdown(forwarder.close)
    return app


if __name__ == "__main__":
    upstream, upstream_hash = sys.argv[1:3]
    port = int(sys.argv[3]) if len(sys.argv) > 3 else 4434
    certfile, keyfile = generate_self_signed_cert(hostname="localhost")
    app = make_app(upstream, upstream_hash, certfile, keyfile)
    print(f"https://localhost:{port}/echo {certificate_hash(certfile).hex()}", flush=True)
    app.run(host="localhost", port=port)
