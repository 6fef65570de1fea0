"""Tests observe pools, managers, monitors and load balancers by their public members."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from pywebtransport.client import ClientMonitor, ClientPool, PooledClient
from pywebtransport.connection import ConnectionLoadBalancer, ConnectionManager, ConnectionPool
from pywebtransport.datagram import DatagramMonitor
from pywebtransport.pubsub import PubSubManager
from pywebtransport.rpc import RpcManager
from pywebtransport.server import ServerMonitor
from pywebtransport.session import SessionManager
from pywebtransport.stream import StreamManager, StreamPool
from pywebtransport.utils._pooling import Lender

TESTS = Path(__file__).resolve().parents[1]
GUARDED = (
    ClientMonitor,
    ClientPool,
    ConnectionLoadBalancer,
    ConnectionManager,
    ConnectionPool,
    DatagramMonitor,
    Lender,
    PooledClient,
    PubSubManager,
    RpcManager,
    ServerMonitor,
    SessionManager,
    StreamManager,
    StreamPool,
)
NAMES = re.compile(rf"\b({'|'.join(owner.__name__ for owner in GUARDED)})\b")
# Attributes of other objects whose value is one of these.
HOLDERS = {"session_manager", "stream_manager"}


def members() -> set[str]:
    """The underscore members that instances of these classes have."""
    found = set()
    for owner in GUARDED:
        for base in owner.__mro__[:-1]:
            found |= set(vars(base))
            source = ast.parse(inspect.getsource(inspect.getmodule(base) or base))
            found |= {
                node.attr
                for node in ast.walk(source)
                if isinstance(node, ast.Attribute)
                and isinstance(node.ctx, ast.Store)
                and isinstance(node.value, ast.Name)
                and node.value.id == "self"
            }
    return {name for name in found if name.startswith("_") and not name.endswith("__")}


MEMBERS = members()


def is_made(value: ast.expr | None, makers: set[str]) -> bool:
    """Whether an expression gives one of these objects."""
    match value:
        case ast.Await(value=inner):
            return is_made(inner, makers)
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)) if name in makers:
            return True
        case ast.Call(func=function):
            return bool(NAMES.search(ast.unparse(function)))
        case ast.Attribute(attr=name):
            return name in HOLDERS
    return False


def mentions(node: ast.expr | None, names: set[str]) -> bool:
    """Whether an annotation speaks of one of these classes, or of one of ``names``."""
    text = "" if node is None else ast.unparse(node)
    return bool(NAMES.search(text)) or not names.isdisjoint(re.findall(r"\w+", text))


def names_in(target: ast.expr | None) -> set[str]:
    """The names that an assignment binds; of ``self.x`` the last one."""
    match target:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return {name}
        case ast.Tuple(elts=elements):
            return set().union(*map(names_in, elements))
    return set()


def holders(tree: ast.Module) -> set[str]:
    """The names in a module that stand for one of these objects."""
    aliases = {
        name
        for node in tree.body
        if isinstance(node, ast.Assign) and NAMES.search(ast.unparse(node.value))
        for name in names_in(node.targets[0])
    }
    makers, found = set(), set(HOLDERS)
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() if mentions(node.returns, aliases):
                makers.add(node.name)
            case ast.arg(arg=name, annotation=annotation) if mentions(annotation, aliases):
                makers.add(name)  # it may be a function that makes one
                found.add(name)
            case ast.AnnAssign(target=target, annotation=annotation) if mentions(
                annotation, aliases
            ):
                found |= names_in(target)
    for node in ast.walk(tree):
        match node:
            case ast.Assign(targets=[target], value=value) if is_made(value, makers):
                found |= names_in(target)
            case ast.withitem(
                context_expr=ast.Call(args=[value]) | value, optional_vars=target
            ) if is_made(value, makers):
                found |= names_in(target)
            case ast.withitem(context_expr=value, optional_vars=target) if is_made(value, makers):
                found |= names_in(target)
    return found


def reaches(source: str) -> Iterator[str]:
    """Line and text of each underscore member of these objects that a module touches."""
    tree = ast.parse(source)
    known = holders(tree)
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=owner, attr=member):
                pass
            case ast.Call(
                func=ast.Name(id="getattr" | "setattr" | "hasattr" | "delattr"),
                args=[owner, ast.Constant(str(member)), *_],
            ):
                pass
            case _:
                continue
        if member not in MEMBERS:
            continue
        match owner:
            case ast.Name(id=name) | ast.Attribute(attr=name) if name in known:
                yield f"{node.lineno}: {ast.unparse(node)}"
            case ast.Call() if is_made(owner, set()):
                yield f"{node.lineno}: {ast.unparse(node)}"


@pytest.mark.parametrize(
    "path", sorted(TESTS.rglob("*.py")), ids=lambda path: str(path.relative_to(TESTS))
)
def test_no_test_reaches_into_them(path: Path) -> None:
    assert list(reaches(path.read_text())) == []


def test_what_is_a_reach() -> None:
    source = (
        "def test(pool: ConnectionPool, session):\n"
        "    pool._lender\n"
        "    getattr(session.stream_manager, '_slots')\n"
        "    session._slots\n"
        "    monitor = ServerMonitor.create(server=1)\n"
        "    monitor._sampler.sample()\n"
        "    monitor.take_sample()\n"
        "    with StreamPool(session) as streams, enter(ClientPool([])) as clients:\n"
        "        streams._before, clients._clients\n"
        "    ConnectionManager()._timer\n"
        "async def make() -> ConnectionLoadBalancer: ...\n"
        "async def use():\n"
        "    made = await make()\n"
        "    made._targets\n"
        "Pairs = Callable[..., Context[tuple[RpcManager, RpcManager]]]\n"
        "async def pair(pairs: Pairs):\n"
        "    async with pairs() as (near, far):\n"
        "        near._incoming.start()\n"
    )
    assert sorted(text.split(": ")[1] for text in reaches(source)) == [
        "ConnectionManager()._timer",
        "clients._clients",
        "getattr(session.stream_manager, '_slots')",
        "made._targets",
        "monitor._sampler",
        "near._incoming",
        "pool._lender",
        "streams._before",
    ]
