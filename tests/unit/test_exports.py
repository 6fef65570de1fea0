"""What the package exports: the contract, complete, and nothing by accident."""

import importlib
import inspect
import pkgutil
from types import ModuleType

import pytest

import pywebtransport

# The top level of the API contract. Structured messages and the reliability layer
# are not part of this release.
CONTRACT = {
    "Address",
    "AuthenticationError",
    "CertificateError",
    "ClientConfig",
    "ClientError",
    "ConfigurationError",
    "ConnectionError",
    "ConnectionState",
    "DatagramError",
    "Event",
    "EventEmitter",
    "EventType",
    "FlowControlError",
    "HandshakeError",
    "Headers",
    "ProtocolError",
    "SerializationError",
    "Serializer",
    "ServerApp",
    "ServerConfig",
    "ServerError",
    "SessionError",
    "SessionId",
    "SessionState",
    "StreamDirection",
    "StreamError",
    "StreamId",
    "StreamState",
    "TimeoutError",
    "URL",
    "WebTransportClient",
    "WebTransportDatagramTransport",
    "WebTransportError",
    "WebTransportReceiveStream",
    "WebTransportSendStream",
    "WebTransportSession",
    "WebTransportStream",
    "__version__",
    "create_development_server",
}

SUBPACKAGES = {
    "client": {"ClientStats", "WebTransportClient"},
    "connection": {"ConnectionInfo", "WebTransportConnection"},
    "datagram": {"DatagramMessage", "DatagramStats", "WebTransportDatagramTransport"},
    "server": {
        "MiddlewareManager",
        "RequestRouter",
        "ServerApp",
        "ServerStats",
        "WebTransportServer",
        "create_auth_middleware",
        "create_cors_middleware",
        "create_development_server",
        "create_echo_server_app",
        "create_logging_middleware",
        "create_rate_limit_middleware",
        "create_simple_app",
        "echo_handler",
        "health_check_handler",
    },
    "session": {"SessionStats", "WebTransportSession"},
    "stream": {
        "StreamStats",
        "WebTransportReceiveStream",
        "WebTransportSendStream",
        "WebTransportStream",
    },
}


def all_modules() -> list[ModuleType]:
    """Every Python module of the package (not the compiled one, not ``__main__``)."""
    names = [
        module.name
        for module in pkgutil.walk_packages(pywebtransport.__path__, "pywebtransport.")
        if not module.name.endswith((".__main__", "._core"))
    ]
    return [pywebtransport, *map(importlib.import_module, names)]


def test_top_level_exports_the_contract() -> None:
    assert sorted(CONTRACT - set(pywebtransport.__all__)) == []


@pytest.mark.parametrize("name", sorted(SUBPACKAGES))
def test_subpackage_exports_the_contract(name: str) -> None:
    module = importlib.import_module(f"pywebtransport.{name}")
    assert sorted(SUBPACKAGES[name] - set(module.__all__)) == []


@pytest.mark.parametrize("module", all_modules(), ids=lambda module: module.__name__)
def test_all_is_true(module: ModuleType) -> None:
    """Every name in ``__all__`` exists and is listed once."""
    names = list(getattr(module, "__all__", []))
    assert [name for name in names if not hasattr(module, name)] == []
    assert len(names) == len(set(names))


def test_public_modules_say_what_they_export() -> None:
    silent = [
        module.__name__
        for module in all_modules()
        if not any(part.startswith("_") for part in module.__name__.split("."))
        and not hasattr(module, "__all__")
    ]
    assert silent == []


def test_top_level_names_are_those_of_the_submodules() -> None:
    """A name at the top is the very object of the module that defines it."""
    for name in pywebtransport.__all__:
        value = getattr(pywebtransport, name)
        defined_here = getattr(value, "__module__", "").startswith("pywebtransport")
        if defined_here and (inspect.isclass(value) or inspect.isfunction(value)):
            home = importlib.import_module(value.__module__)
            assert getattr(home, name) is value, name


def test_version_is_a_release_number() -> None:
    parts = pywebtransport.__version__.split(".")
    assert len(parts) >= 3, pywebtransport.__version__
    assert all(part.isdecimal() for part in parts[:2]), pywebtransport.__version__
