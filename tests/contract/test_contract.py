"""The public surface is the one that programs were promised: names, parameters, defaults.

``surface.toml`` is the contract. What this package does otherwise on purpose is listed
below, each with its reason; everything else has to match.
"""

import ast
import dataclasses
import enum
import importlib
import inspect
import socket
import tomllib
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from pywebtransport import __version__, constants, types, utils

SURFACE: dict[str, dict[str, Any]] = tomllib.loads(
    (Path(__file__).parent / "surface.toml").read_text()
)

# Names that are left out, with the reason.
LEFT_OUT: dict[str, str] = {
    "pywebtransport.server.server.WebTransportServerProtocol": (
        "an asyncio protocol of another QUIC library; the engine takes packets itself"
    ),
    "pywebtransport.connection.connection.WebTransportConnection.create_server": (
        "takes the transport and protocol objects of another QUIC library"
    ),
    "pywebtransport.connection.connection.WebTransportConnection.accept": (
        "takes the transport and protocol objects of another QUIC library"
    ),
}
# Defaults and shapes that differ, with the reason.
DIFFERENT: dict[str, str] = {
    "pywebtransport.utils.generate_self_signed_cert.days_valid": (
        "13 days: browsers refuse to pin certificates that are valid for more than 14"
    ),
    "pywebtransport.session.session.WebTransportSession.__init__.max_streams": (
        "None: the configuration of the connection says it"
    ),
    "pywebtransport.session.session.WebTransportSession.__init__.max_incoming_streams": (
        "None: the configuration of the connection said it to the peer already"
    ),
    "pywebtransport.session.session.WebTransportSession.__init__.stream_cleanup_interval": (
        "None: closed streams free themselves"
    ),
    "pywebtransport.datagram.transport.WebTransportDatagramTransport.__init__.high_water_mark": (
        "None: the configuration of the connection says it"
    ),
}


def classes() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for module, surface in SURFACE.items():
        for name, described in surface.get("classes", {}).items():
            yield module, name, described


def entries(kind: str) -> list[tuple[str, str, str]]:
    """Module, class and text of every class entry of a kind."""
    return [
        (module, name, text)
        for module, name, described in classes()
        for text in described.get(kind, ())
    ]


def identify(value: object) -> str:
    """Short test names: module, class, member."""
    return value.split("(")[0].split(" = ")[0] if isinstance(value, str) else ""


def find(module: str, name: str) -> Any:
    return getattr(importlib.import_module(module), name)


def parse(signature: str) -> tuple[str, bool, bool, ast.arguments]:
    """Name, whether a class method, whether awaited, parameters."""
    is_class_method = signature.startswith("classmethod ")
    text = signature.removeprefix("classmethod ")
    is_async = text.startswith("async ")
    text = text.removeprefix("async ").removeprefix("def ")
    node = ast.parse(f"def {text}: ...").body[0]
    assert isinstance(node, ast.FunctionDef)
    return node.name, is_class_method, is_async, node.args


def evaluate(expression: ast.expr, namespace: dict[str, Any]) -> Any:
    return eval(ast.unparse(expression), namespace)


def namespace_of(module: str) -> dict[str, Any]:
    names = {
        **vars(constants),
        **vars(utils),
        "socket": socket,
        "uuid": uuid,
        "__version__": __version__,
    }
    names.update(vars(types))
    names.update(vars(importlib.import_module("pywebtransport.config._fields")))
    names.update(vars(importlib.import_module(module)))
    return names


def check_parameters(
    where: str,
    function: Any,
    arguments: ast.arguments,
    module: str,
    *,
    positional_first: bool = True,
) -> None:
    """Every promised parameter is accepted as a keyword and has the promised default."""
    if where in DIFFERENT:
        return
    actual = inspect.signature(function).parameters
    namespace = namespace_of(module)
    positional = [*arguments.posonlyargs, *arguments.args]
    defaults: list[ast.expr | None] = [None] * (len(positional) - len(arguments.defaults))
    defaults += arguments.defaults
    promised = [*zip(positional, defaults, strict=True)]
    promised += zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    names = {argument.arg for argument, _ in promised}
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in actual.values())
    for argument, default in promised:
        name = argument.arg
        if name not in actual:
            assert takes_any, f"{where} lacks the parameter {name}"
            continue
        parameter = actual[name]
        assert parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD), (
            f"{where}: {name} is not accepted as a keyword"
        )
        if default is None:
            continue
        expected = evaluate(default, namespace)
        assert parameter.default is not parameter.empty, f"{where}: {name} has no default"
        if f"{where}.{name}" not in DIFFERENT:
            assert parameter.default == expected, f"{where}: default of {name}"
    for name, parameter in actual.items():
        if name in names or name in ("self", "cls"):
            continue
        optional = parameter.default is not parameter.empty or parameter.kind in (
            parameter.VAR_KEYWORD,
            parameter.VAR_POSITIONAL,
        )
        assert optional, f"{where}: the further parameter {name} must be optional"
    if arguments.kwarg is not None and not takes_any:
        pytest.fail(f"{where} has to accept further keywords")
    if arguments.vararg is not None:
        kinds = {parameter.kind for parameter in actual.values()}
        assert inspect.Parameter.VAR_POSITIONAL in kinds, f"{where} has to accept further arguments"
    if positional_first:
        check_obvious_argument(where, actual, promised)


def check_obvious_argument(
    where: str,
    actual: Mapping[str, inspect.Parameter],
    promised: list[tuple[ast.arg, ast.expr | None]],
) -> None:
    """The first of the promised parameters may be positional where it is the obvious one.

    It is where it is the only one that has to be given, and where it is the configuration.
    """
    parameters = [
        (each.arg, default) for each, default in promised if each.arg not in ("self", "cls")
    ]
    required = [name for name, default in parameters if default is None]
    if not parameters or parameters[0][0] not in actual:
        return
    first = parameters[0][0]
    if required == [first] or (first == "config" and not required):
        kind = actual[first].kind
        assert kind is inspect.Parameter.POSITIONAL_OR_KEYWORD, (
            f"{where}: {first} is not accepted positionally"
        )


def check_not_awaited(where: str, function: Any) -> None:
    """What is promised without ``async`` gives its result at once."""
    waits = inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)
    assert not waits, f"{where} has to be awaited"


def check_awaited(where: str, function: Any) -> None:
    """What is promised as ``async`` can be awaited, or iterated with ``async for``."""
    returned = str(inspect.signature(function).return_annotation)
    assert (
        inspect.iscoroutinefunction(function)
        or inspect.isasyncgenfunction(function)
        or any(word in returned for word in ("Await", "Async", "Connecting", "Incoming"))
    ), f"{where} returns {returned}, which cannot be awaited"


@pytest.mark.parametrize("module", sorted(SURFACE))
def test_exports(module: str) -> None:
    exported = importlib.import_module(module).__all__
    promised = {
        name for name in SURFACE[module].get("exports", ()) if f"{module}.{name}" not in LEFT_OUT
    }
    assert sorted(promised - set(exported)) == []


@pytest.mark.parametrize(
    ("module", "text"),
    [(module, text) for module in SURFACE for text in SURFACE[module].get("functions", ())],
    ids=identify,
)
def test_functions(module: str, text: str) -> None:
    name, _, is_async, arguments = parse(text)
    where = f"{module}.{name}"
    if where in LEFT_OUT:
        assert not hasattr(importlib.import_module(module), name)
        return
    function = find(module, name)
    check_parameters(where, function, arguments, module)
    (check_awaited if is_async else check_not_awaited)(where, function)


@pytest.mark.parametrize(
    ("module", "text"),
    [(module, text) for module in SURFACE for text in SURFACE[module].get("values", ())],
    ids=identify,
)
def test_aliases(module: str, text: str) -> None:
    assert hasattr(importlib.import_module(module), text.split(" = ")[0])


@pytest.mark.parametrize(("module", "name", "described"), list(classes()), ids=identify)
def test_classes(module: str, name: str, described: dict[str, Any]) -> None:
    """The class is there, and so are its bases, as far as they are part of the contract."""
    if f"{module}.{name}" in LEFT_OUT:
        assert not hasattr(importlib.import_module(module), name)
        return
    cls = find(module, name)
    assert inspect.isclass(cls)
    ours = {known for _, known, _ in classes()} | {"StrEnum", "IntEnum", "Exception", "Protocol"}
    bases = {base.strip() for base in described["bases"].split(",")} & ours
    assert sorted(bases - {base.__name__ for base in cls.__mro__}) == []
    if "dataclass" in described.get("decorator", ""):
        assert dataclasses.is_dataclass(cls)


@pytest.mark.parametrize(("module", "name", "text"), entries("methods"), ids=identify)
def test_methods(module: str, name: str, text: str) -> None:
    method_name, is_class_method, is_async, arguments = parse(text)
    where = f"{module}.{name}.{method_name}"
    if f"{module}.{name}" in LEFT_OUT:
        return
    cls = find(module, name)
    if where in LEFT_OUT:
        assert method_name not in vars(cls)
        return
    static = inspect.getattr_static(cls, method_name)
    assert isinstance(static, classmethod) == is_class_method
    method = getattr(cls, method_name)
    is_ours = not getattr(cls, "_is_protocol", False)  # the others are implemented by programs
    check_parameters(where, method, arguments, module, positional_first=is_ours)
    (check_awaited if is_async else check_not_awaited)(where, method)


@pytest.mark.parametrize(("module", "name", "text"), entries("properties"), ids=identify)
def test_properties(module: str, name: str, text: str) -> None:
    if f"{module}.{name}" in LEFT_OUT:
        return
    attribute = inspect.getattr_static(find(module, name), text.split(":")[0])
    assert isinstance(attribute, property)


@pytest.mark.parametrize(("module", "name", "text"), entries("attributes"), ids=identify)
def test_attributes(module: str, name: str, text: str) -> None:
    """Set by ``__init__``, or a slot, a property or a class attribute."""
    if f"{module}.{name}" in LEFT_OUT:
        return
    cls = find(module, name)
    if hasattr(cls, text):
        return
    sources = "".join(
        inspect.getsource(base)
        for base in cls.__mro__
        if base.__module__.startswith("pywebtransport")
    )
    assert f"self.{text} = " in sources or f"self.{text}:" in sources


@pytest.mark.parametrize(("module", "name", "text"), entries("members"), ids=identify)
def test_enumerations(module: str, name: str, text: str) -> None:
    member, value = text.split(" = ")
    cls = find(module, name)
    assert issubclass(cls, enum.Enum)
    if f"{module}.{name}.{member}" not in DIFFERENT:
        assert cls[member].value == ast.literal_eval(value)


@pytest.mark.parametrize(("module", "name", "text"), entries("fields"), ids=identify)
def test_dataclass_fields(module: str, name: str, text: str) -> None:
    declaration, _, default = text.partition(" = ")
    field_name = declaration.split(":")[0]
    where = f"{module}.{name}.{field_name}"
    fields = {field.name: field for field in dataclasses.fields(find(module, name))}
    field = fields[field_name]
    factory = field.default_factory
    if not default:
        return
    # ``field(...)`` is read as the dictionary of its arguments.
    namespace = namespace_of(module) | {"field": dict}
    expected = evaluate(ast.parse(default, mode="eval").body, namespace)
    if expected == {"init": False}:
        assert not field.init, where
    elif isinstance(expected, dict):
        assert factory is not dataclasses.MISSING, where
        made, promised = factory(), expected["default_factory"]()
        assert type(made) is type(promised), where
        if isinstance(made, list | dict):  # the others are an identifier or a time: new each time
            assert made == promised, where
    elif where not in DIFFERENT:
        assert field.default == expected, where


def promised_names() -> Iterator[str]:
    """Everything that an exception above may name."""
    for module, surface in SURFACE.items():
        yield from (f"{module}.{name}" for name in surface.get("exports", ()))
        for text in surface.get("functions", ()):
            yield from with_parameters(module, text)
    for module, name, described in classes():
        yield f"{module}.{name}"
        for text in described.get("methods", ()):
            yield from with_parameters(f"{module}.{name}", text)
        for kind in ("fields", "members", "properties", "attributes"):
            for text in described.get(kind, ()):
                yield f"{module}.{name}.{text.split(':')[0].split(' = ')[0]}"


def with_parameters(owner: str, signature: str) -> Iterator[str]:
    name, _, _, arguments = parse(signature)
    yield f"{owner}.{name}"
    for argument in (*arguments.args, *arguments.kwonlyargs):
        yield f"{owner}.{name}.{argument.arg}"


def test_reasons_are_for_something_that_is_promised() -> None:
    """No entry outlives what it excuses."""
    assert sorted({*LEFT_OUT, *DIFFERENT} - set(promised_names())) == []
