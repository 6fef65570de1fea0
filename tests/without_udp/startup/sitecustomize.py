"""Python runs this file first where ``PYTHONPATH`` names its directory, and so do its children.

From then on clients have a fallback, and servers serve sessions over TCP, unless a program says
something else. So programs that know nothing of it run where there is no UDP.
"""

from __future__ import annotations

import os
import subprocess
from typing import Any

_HERE = os.path.dirname(os.path.abspath(__file__))
_VARIABLE = "PYTHONPATH"


def _default(config: type, name: str, value: object) -> None:
    """Give a field another default, for all who make a configuration with sockets."""
    original = config.__init__

    def __init__(self: Any, **values: Any) -> None:
        if values.get("network") is None:
            values.setdefault(name, value)
        original(self, **values)

    config.__init__ = __init__  # type: ignore[misc]


def _keep_variable() -> None:
    """Let children with a path of their own run this file, too."""
    original = subprocess.Popen.__init__

    def __init__(self: Any, *args: Any, **options: Any) -> None:
        environment = options.get("env")
        if environment is not None and _HERE not in environment.get(_VARIABLE, ""):
            path = [_HERE, *filter(None, [environment.get(_VARIABLE)])]
            options["env"] = {**environment, _VARIABLE: os.pathsep.join(path)}
        original(self, *args, **options)

    subprocess.Popen.__init__ = __init__  # type: ignore[method-assign]


try:
    from pywebtransport.config import ClientConfig, ServerConfig
except ImportError:
    pass  # the Python of some other virtualenv
else:
    _default(ClientConfig, "fallback", "websocket")
    _default(ServerConfig, "websocket", True)
    _keep_variable()
