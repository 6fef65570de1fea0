"""Finds the application that ``MODULE:NAME`` stands for."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from typing import Any

from ..exceptions import ConfigurationError, ServerError, WebTransportError
from ..server import ServerApp
from ..utils._failures import describe_error
from ..utils._text import printable

__all__ = ["describe_failure", "load_app"]


def load_app(target: str, *, factory: bool) -> ServerApp:
    """Import an application; modules of the working directory come first.

    Args:
        target: ``MODULE:NAME``, where NAME may have dots.
        factory: NAME is a function that returns the application.

    Raises:
        ConfigurationError: There is no such module or name, or it is no application.
        ServerError: Code of the application raised an exception.
    """
    module_name, colon, name = target.partition(":")
    if not colon or not module_name or not name:
        hint = " (a module, not a file)" if module_name.endswith(".py") else ""
        raise _refuse(target, f"expected MODULE:NAME{hint}, such as shop:app")
    directory = os.getcwd()
    if directory not in sys.path:
        sys.path.insert(0, directory)
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise _failed(f"importing {printable(module_name)} failed", error) from error
        raise _refuse(
            target, f"there is no module {module_name!r} in {directory} or on Python's path"
        ) from None
    except SystemExit as error:
        raise ServerError(
            f"importing {printable(module_name)} ended the program with status "
            f"{printable(error.code)}; guard what runs it with if __name__ == '__main__'"
        ) from error
    except Exception as error:
        raise _failed(f"importing {printable(module_name)} failed", error) from error
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise _refuse(target, f"module {module_name!r} has no {part!r}") from None
    if factory:
        if not callable(found):
            raise _refuse(target, "it is no function that --factory could call")
        try:
            found = found()
        except Exception as error:
            raise _failed(f"calling {printable(target)} failed", error) from error
    return _as_server_app(found, target)


def _as_server_app(found: Any, target: str) -> ServerApp:
    """The one place that knows what can be served."""
    if isinstance(found, ServerApp):
        return found
    hint = "; if it is a function that makes the application, use --factory"
    raise _refuse(
        target,
        f"expected a ServerApp, not a {type(found).__name__}{hint if callable(found) else ''}",
    )


def describe_failure(error: BaseException) -> str:
    """An exception of the application: what it is, and where it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
    if isinstance(error, SyntaxError | WebTransportError):
        where = ""  # its text says it, or what to do
    return f"{describe_error(error)}{where}"


def _failed(what: str, error: BaseException) -> ServerError:
    return ServerError(f"{what}: {describe_failure(error)}")


def _refuse(target: str, reason: str) -> ConfigurationError:
    return ConfigurationError(
        f"{printable(target)}: {reason}", config_key="target", config_value=target
    )
