"""An echo server with metrics for Prometheus: python examples/metrics.py [PORT [METRICS_PORT]]"""

import argparse
import sys

from pywebtransport import ServerConfig, WebTransportError
from pywebtransport.monitoring import Metrics, MetricsEndpoint
from pywebtransport.server import create_echo_server_app
from pywebtransport.utils import certificate_hash, generate_self_signed_cert

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("port", type=int, nargs="?", default=4433)
parser.add_argument("metrics_port", type=int, nargs="?", default=9464)
arguments = parser.parse_args()
certfile, keyfile = generate_self_signed_cert(hostname="localhost")
app = create_echo_server_app(config=ServerConfig(certfile=certfile, keyfile=keyfile))


@app.on_startup
async def serve_metrics() -> None:
    endpoint = MetricsEndpoint(Metrics(app), port=arguments.metrics_port)
    await endpoint.start()
    app.on_shutdown(endpoint.close)
    print(f"metrics at {endpoint.url}", flush=True)
    print(f"https://localhost:{arguments.port}/ {certificate_hash(certfile).hex()}", flush=True)


if __name__ == "__main__":
    try:
        app.run(host="localhost", port=arguments.port)
    except WebTransportError as error:
        sys.exit(f"error: {error}")
