"""Optional packages: imported when used, and named by their extra when missing."""

from __future__ import annotations

import importlib
from typing import Any

from ..exceptions import ConfigurationError

__all__ = ["require"]


def require(module: str, *, extra: str) -> Any:
    """Import an optional module.

    Raises:
        ConfigurationError: It cannot be imported; names it and the extra that installs it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigurationError(
            f'{module} cannot be imported: pip install "pywebtransport[{extra}]"',
            config_key=extra,
            config_value=None,
        ) from error
