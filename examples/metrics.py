"""An echo server with metrics for Prometheus: python examples/metrics.py [PORT [METRICS_PORT]]"""

import sys

from pywebtransport import ServerConfig
from pywebtransport.monitoring import Metrics, MetricsEndpoint
from pywebtransport.server import create_echo_server_app
from pywebtransport.utils import certificate_hash, generate_self_signed_cert

port, metrics_port = (*map(int, sys.argv[1:]), *(4433, 9464)[len(sys.argv) - 1 :])
certfile, keyfile = generate_self_signed_cert(hostname="localhost")
app = create_echo_server_app(config=ServerConfig(certfile=certfile, keyfile=keyfile))


@app.on_startup
async def serve_metrics() -> None:
    endpoint = MetricsEndpoint(Metrics(app), port=metrics_port)
    await endpoint.start()
    app.on_shutdown(endpoint.close)
    print(f"metrics at {endpoint.url}", flush=True)
    print(f"https://localhost:{port}/ {certificate_hash(certfile).hex()}", flush=True)


if __name__ == "__main__":
    app.run(host="localhost", port=port)
