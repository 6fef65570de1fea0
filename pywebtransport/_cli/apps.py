"""Finds the application that ``MODULE:NAME`` stands for."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
import traceback
from typing import Any

from ..asgi._application import check_application
from ..exceptions import ConfigurationError, ServerError, WebTransportError
from ..server import ServerApp
from ..utils._failures import describe_error
from ..utils._text import printable

__all__ = ["describe_failure", "load_app"]


def load_app(target: str, *, factory: bool) -> Any:
    """Import an application; modules of the working directory come first.

    Args:
        target: ``MODULE:NAME``, where NAME may have dots.
        factory: NAME is a function that returns the application.

    Returns:
        A ``ServerApp`` or an ASGI application.

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
    _check(found, target)
    return found


def _check(found: Any, target: str) -> None:
    """The one place that knows what can be served."""
    if isinstance(found, ServerApp):
        return
    try:
        check_application(found)
    except ConfigurationError:
        kind = "class" if isinstance(found, type) else type(found).__name__
        reason = f"expected a ServerApp or an ASGI application, not a {kind}{_hint(found)}"
        raise _refuse(target, reason) from None


def _hint(found: Any) -> str:
    """What somebody may have had in mind who named an object that is no application."""
    if not callable(found):
        return ""
    factory = "; if it is a function that makes the application, use --factory"
    if isinstance(found, type):
        return "; name an object of this class, or use --factory if the class needs no arguments"
    if _takes(found, 2):
        return (
            "; if it is a WSGI application (Flask, Django's get_wsgi_application), wrap it in "
            "asgiref.wsgi.WsgiToAsgi, or name the ASGI application of your framework"
        )
    if _takes(found, 1) and not _takes(found, 0):
        return (
            "; if it is an application for ASGI 2, wrap it in "
            "asgiref.compatibility.guarantee_single_callable"
        )
    return factory


def _takes(function: Any, count: int) -> bool:
    """Whether a function can be called with so many arguments."""
    try:
        inspect.signature(function).bind(*[None] * count)
    except (TypeError, ValueError):
        return False
    return True


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
