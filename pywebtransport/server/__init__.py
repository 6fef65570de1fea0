"""The server side: ``ServerApp`` over ``WebTransportServer``."""

from typing import TYPE_CHECKING, Any

from ._passed import inherited_sockets
from ._serve import serve
from ._stats import ServerStats
from ._worker import Worker, current_worker
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
from .router import RequestRouter
from .server import WebTransportServer
from .utils import (
    create_development_server,
    create_echo_server_app,
    create_simple_app,
    echo_handler,
    health_check_handler,
)

if TYPE_CHECKING:
    from ._supervisor import run_workers

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


def __getattr__(name: str) -> Any:
    """Import what starts processes when it is first used."""
    if name == "run_workers":
        from ._supervisor import run_workers

        globals()[name] = run_workers
        return run_workers
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
