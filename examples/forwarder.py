"""A forwarder: relays sessions for /echo to another server, such as echo_server.py."""

import argparse
import sys

from pywebtransport import ClientConfig, ServerApp, ServerConfig, WebTransportError
from pywebtransport.forwarder import WebTransportForwarder
from pywebtransport.utils import certificate_hash, generate_self_signed_cert


def make_app(upstream: str, upstream_hash: str, certfile: str, keyfile: str) -> ServerApp:
    app = ServerApp(config=ServerConfig.create(certfile=certfile, keyfile=keyfile))
    forwarder = WebTransportForwarder(
        upstream,  # e.g. https://localhost:4433; the path of the request is kept
        config=ClientConfig.create(
            server_certificate_hashes=[upstream_hash], max_connections=10_000
        ),
    )
    app.route("/echo")(forwarder)
    app.on_shutdown(forwarder.close)
    return app


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("upstream", help="URL of the other server, without a path")
    parser.add_argument("hash", help="SHA-256 of its certificate, in hex")
    parser.add_argument("port", type=int, nargs="?", default=4434)
    arguments = parser.parse_args()
    certfile, keyfile = generate_self_signed_cert(hostname="localhost")
    try:
        app = make_app(arguments.upstream, arguments.hash, certfile, keyfile)
        own_hash = certificate_hash(certfile).hex()
        print(f"https://localhost:{arguments.port}/echo {own_hash}", flush=True)
        app.run(host="localhost", port=arguments.port)
    except WebTransportError as error:
        sys.exit(f"error: {error}")
