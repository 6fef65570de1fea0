"""Optional packages: imported when used, and named by their extra when missing."""

from __future__ import annotations

import importlib
from typing import Any, Final

from ..exceptions import ConfigurationError

__all__ = ["REQUIREMENTS", "require"]

REQUIREMENTS: Final[dict[str, tuple[str, ...]]] = {
    "asgi": ("uvicorn>=0.30", "httptools>=0.6", "wsproto>=1.2"),
    "fallback": ("websockets>=13",),
    "http2": ("hypercorn>=0.17",),
    "msgpack": ("msgpack>=1.0",),
    "nats": ("nats-py>=2.6",),
    "opentelemetry": ("opentelemetry-api>=1.25",),
    "prometheus": ("prometheus-client>=0.20",),
    "protobuf": ("protobuf>=4.25",),
    "redis": ("redis>=5.0.1",),
    "uvloop": ("uvloop>=0.19",),
}
"""What the extras of pyproject.toml install. Messages name it, not the extra alone: pip can install
it however pywebtransport itself was installed."""


def require(module: str, *, extra: str) -> Any:
    """Import an optional module.

    Raises:
        ConfigurationError: It cannot be imported; the message has the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        absent = isinstance(error, ModuleNotFoundError) and error.name in (module, package)
        wanted = " ".join(f'"{item}"' for item in REQUIREMENTS[extra])
        text = f"{module} cannot be imported: pip install {wanted}"
        if not absent:  # it is installed, but incomplete: installing it again would change nothing
            again = f"pip install --upgrade --force-reinstall {wanted}"
            text = f"{module} is installed, but cannot be imported ({error}): {again}"
        elif len(REQUIREMENTS[extra]) > 1:
            text += f', or in a checkout of pywebtransport: pip install ".[{extra}]"'
        raise ConfigurationError(text, config_key=extra, config_value=None) from error
