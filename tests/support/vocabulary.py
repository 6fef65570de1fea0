"""Every name that the documentation may use: of the package, its files, and of others."""

from __future__ import annotations

import ast
import builtins
import dataclasses
import enum
import functools
import importlib
import inspect
import keyword
import pkgutil
import re
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pywebtransport
from pywebtransport.config import BaseConfig, ClientConfig, ServerConfig
from tests.support.pages import ROOT

__all__ = [
    "VARIABLES",
    "attributes",
    "extras",
    "find",
    "is_known",
    "keywords_of",
    "makefile_variables",
    "names",
    "public_modules",
    "texts",
]

# What a variable of this name stands for in the documentation.
VARIABLES = {
    "app": "pywebtransport.ServerApp",
    "backend": "pywebtransport.events.RedisBackend",
    "broadcaster": "pywebtransport.datagram.DatagramBroadcaster",
    "broker": "pywebtransport.pubsub.Broker",
    "bus": "pywebtransport.events.EventBus",
    "client": "pywebtransport.client.ReconnectingClient",
    "close_info": "pywebtransport.types.SessionCloseInfo",
    "config": "pywebtransport.ClientConfig",
    "connection": "pywebtransport.connection.WebTransportConnection",
    "event": "pywebtransport.Event",
    "frame": "pywebtransport.media.Frame",
    "forwarder": "pywebtransport.forwarder.WebTransportForwarder",
    "layer": "pywebtransport.DatagramReliabilityLayer",
    "monitor": "pywebtransport.server.ServerMonitor",
    "network": "pywebtransport.testing.Network",
    "rpc": "pywebtransport.rpc.ReconnectingRpc",
    "sender": "pywebtransport.media.FrameSender",
    "served": "pywebtransport.testing.Served",
    "server": "pywebtransport.server.WebTransportServer",
    "session": "pywebtransport.WebTransportSession",
    "stream": "pywebtransport.WebTransportStream",
    "subscription": "pywebtransport.pubsub.Subscription",
}
# What attributes lead to; other attributes end a chain.
LEADS_TO = {
    "connection": "pywebtransport.connection.WebTransportConnection",
    "datagrams": "pywebtransport.WebTransportDatagramTransport",
    "info": "pywebtransport.connection.ConnectionInfo",
    "server": "pywebtransport.server.WebTransportServer",
    "session": "pywebtransport.WebTransportSession",
}
# Keywords that are the fields of a configuration.
FIELDS = {"Unpack[ClientFields]": ClientConfig, "Unpack[ServerFields]": ServerConfig}
# Derived values of a configuration: they read like fields, and cannot be set.
DERIVED = frozenset(name for name, value in vars(BaseConfig).items() if isinstance(value, property))


def public_modules() -> Iterator[ModuleType]:
    """The package and every module under it without an underscore."""
    yield pywebtransport
    for found in pkgutil.walk_packages(pywebtransport.__path__, "pywebtransport."):
        if "._" not in found.name:
            yield importlib.import_module(found.name)


@functools.cache
def _objects() -> tuple[Any, ...]:
    """Classes and functions of the package that have a public name."""
    found = {}
    for module in public_modules():
        exported = getattr(module, "__all__", ())
        for name, value in vars(module).items():
            home = str(getattr(value, "__module__", ""))
            ours = home.startswith("pywebtransport") and ("._" not in home or name in exported)
            if ours and not name.startswith("_") and (inspect.isclass(value) or callable(value)):
                found[id(value)] = value
    return tuple(found.values())


def attributes(cls: type) -> frozenset[str]:
    """What an instance has: members, fields, and what ``__init__`` sets."""
    names = {name for name in dir(cls) if not name.startswith("_")}
    for base in cls.__mro__:
        if base.__module__.startswith("pywebtransport") and "._quic" not in base.__module__:
            names |= set(getattr(base, "__annotations__", ()))
            names |= set(re.findall(r"self\.([a-z]\w*)(?::[^=\n]+)? = ", inspect.getsource(base)))
    return frozenset(names)


@functools.cache
def names() -> frozenset[str]:
    """What may stand alone: modules, classes, functions, parameters, members, fields, values."""
    found = set(importlib.import_module("pytest_pywebtransport").__all__)
    for module in public_modules():
        found |= set(module.__name__.split("."))
        found |= {name for name in vars(module) if name.isupper()}
        found |= set(getattr(module, "__all__", ()))
    for value in _objects():
        found.add(getattr(value, "__name__", ""))
        if not inspect.isclass(value):
            found |= set(inspect.signature(value).parameters)
            continue
        members = attributes(value)
        found |= members - DERIVED if issubclass(value, BaseConfig) else members
        if issubclass(value, enum.Enum):
            found |= {str(member.value) for member in value}
        if dataclasses.is_dataclass(value):
            found |= {field.name for field in dataclasses.fields(value)}
        for member in vars(value).values():
            function = inspect.unwrap(getattr(member, "__func__", member))
            if inspect.isfunction(function):
                found |= set(inspect.signature(function).parameters)
    return frozenset(found)


@functools.cache
def texts() -> frozenset[str]:
    """Every string in the package that is not a docstring: keys, names on the wire, choices."""
    found = set()
    for path in (ROOT / "pywebtransport").rglob("*.py"):
        tree = ast.parse(path.read_text())
        documentation = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        found |= {
            node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in documentation
        }
    return frozenset(found)


@functools.cache
def keywords_of() -> dict[str, frozenset[str]]:
    """By the name of a callable: the keywords that one of this name takes; ``**`` for any."""
    found: defaultdict[str, set[str]] = defaultdict(set)

    def add(name: str, function: Any) -> None:
        for parameter in inspect.signature(function).parameters.values():
            any_keyword = parameter.kind is parameter.VAR_KEYWORD
            if parameter.annotation in FIELDS:
                found[name] |= set(FIELDS[parameter.annotation]._rules)
            else:
                found[name].add("**" if any_keyword else parameter.name)

    for value in _objects():
        if inspect.isclass(value):
            if issubclass(value, BaseConfig):
                for name in (value.__name__, "create", "update"):
                    found[name] |= set(value._rules)
            elif not issubclass(value, enum.Enum):
                add(value.__name__, value.__init__)
            for name in attributes(value):
                member = inspect.getattr_static(value, name, None)
                function = inspect.unwrap(getattr(member, "__func__", member))
                of_config = issubclass(value, BaseConfig) and name in ("create", "update")
                if inspect.isfunction(function) and not of_config:
                    add(name, function)
        else:
            add(value.__name__, value)
    return {name: frozenset(parameters) for name, parameters in found.items()}


@functools.cache
def extras() -> frozenset[str]:
    """Extras that can be installed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return frozenset(project["optional-dependencies"])


@functools.cache
def makefile_variables() -> frozenset[str]:
    """Variables that the Makefile takes."""
    text = (ROOT / "Makefile").read_text()
    return frozenset(re.findall(r"^(?:export )?([A-Z_]+) *[?:]?=", text, re.M)) | frozenset(
        re.findall(r"\$\(([A-Z_]+)\)", text)
    )


def find(path: str) -> bool:
    """Whether ``a.b.c`` leads somewhere: from a module, a class, or a usual variable."""
    first, *rest = path.split(".")
    value: Any = None
    if first in VARIABLES:
        value = _load(VARIABLES[first])
    elif first in ("pywebtransport", "tests", "google", *sys.stdlib_module_names):
        if rest[-1:] == ["*"]:  # a family of loggers
            return True
        try:
            _load(path)
        except (ImportError, AttributeError):
            return False
        return True
    else:
        for candidate in _objects():
            if getattr(candidate, "__name__", "") == first:
                value = candidate
    if value is None:
        return False
    for position, name in enumerate(rest):
        if not (inspect.isclass(value) and name in attributes(value)):
            return False
        if name not in LEADS_TO:
            return position == len(rest) - 1
        value = _load(LEADS_TO[name])
    return True


def is_known(name: str) -> bool:
    """Whether a name that stands alone is one of the package, of Python, or of its files."""
    return (
        name in names()
        or name in texts()
        or hasattr(builtins, name)
        or keyword.iskeyword(name)
        or keyword.issoftkeyword(name)
        or name in extras()
        or name in makefile_variables()
    )


def _load(path: str) -> Any:
    """The object behind a dotted name."""
    parts = path.split(".")
    for length in range(len(parts), 0, -1):
        try:
            value: Any = importlib.import_module(".".join(parts[:length]))
        except ImportError:
            continue
        for name in parts[length:]:
            value = getattr(value, name)
        return value
    raise ImportError(path)
