"""Optional packages: imported when used, and named by their extra when missing."""

from __future__ import annotations

import importlib
from typing import Any

from ..exceptions import ConfigurationError

__all__ = ["require"]


def require(module: str, *, extra: str) -> Any:
    """Import an optional module.

    Raises:
        ConfigurationError: It is not installed; says how to install it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigurationError(
            f'{module.partition(".")[0]} is not installed: pip install "pywebtransport[{extra}]"',
            config_key=extra,
            config_value=None,
        ) from error
