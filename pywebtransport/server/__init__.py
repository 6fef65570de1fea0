"""The server side: ``ServerApp`` over ``WebTransportServer``."""

from ._serve import serve
from .app import ServerApp
from .cluster import ServerCluster
from .middleware import (
    MiddlewareManager,
    RateLimiter,
    create_auth_middleware,
    create_cors_middleware,
    create_logging_middleware,
    create_rate_limit_middleware,
)
from .monitor import ServerMonitor
from .passed import inherited_sockets
from .router import RequestRouter
from .server import WebTransportServer
from .stats import ServerStats
from .supervisor import run_workers
from .utils import (
    create_development_server,
    create_echo_server_app,
    create_simple_app,
    echo_handler,
    health_check_handler,
)
from .worker import Worker, current_worker

__all__ = [
    "MiddlewareManager",
    "RateLimiter",
    "RequestRouter",
    "ServerApp",
    "ServerCluster",
    "ServerMonitor",
    "ServerStats",
    "WebTransportServer",
    "Worker",
    "create_auth_middleware",
    "create_cors_middleware",
    "create_development_server",
    "create_echo_server_app",
    "create_logging_middleware",
    "create_rate_limit_middleware",
    "create_simple_app",
    "current_worker",
    "echo_handler",
    "health_check_handler",
    "inherited_sockets",
    "run_workers",
    "serve",
]
