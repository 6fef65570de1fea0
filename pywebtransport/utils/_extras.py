"""Optional packages: imported when used, and named by their extra when missing."""

from __future__ import annotations

import importlib
from typing import Any

from ..exceptions import ConfigurationError

__all__ = ["require"]


def require(module: str, *, extra: str) -> Any:
    """Import an optional module.

    Raises:
        ConfigurationError: It cannot be imported; the message names the extra to install.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        absent = isinstance(error, ModuleNotFoundError) and error.name in (module, package)
        text = f'{module} cannot be imported: pip install "pywebtransport[{extra}]"'
        if not absent:  # it is installed, but incomplete: installing it again would change nothing
            again = f'pip install --upgrade --force-reinstall "pywebtransport[{extra}]"'
            text = f"{module} is installed, but cannot be imported ({error}): {again}"
        raise ConfigurationError(text, config_key=extra, config_value=None) from error
