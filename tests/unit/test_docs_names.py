"""Every name in the documentation exists: in running text and as keywords in code."""

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.pages import PAGES, ROOT, blocks, prose, relative
from tests.support.vocabulary import (
    VARIABLES,
    extras,
    find,
    is_known,
    keywords_of,
    makefile_variables,
    texts,
)

SPAN = re.compile(r"(?<![`}])(`+)(?!`)(.+?)(?<!`)\1(?!`)", re.S)
NAME = re.compile(r"[A-Za-z_]\w*")
PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_*]\w*)+")
# Names of others, by where they come from.
FOREIGN = {
    "commands": "chromium git make python python3 ruff sudo valgrind",
    "RFCs and drafts": "ENABLE_CONNECT_PROTOCOL H3_DATAGRAM Origin",
    "Linux": "SO_ATTACH_REUSEPORT_CBPF epoll_wait getrusage poll recvmmsg sched_yield sendmsg "
    "smaps_rollup Pss VmHWM VmRSS",
    "systemd": "TimeoutStopSec CAP_NET_BIND_SERVICE",
    "containers": "Dockerfile app externalTrafficPolicy hostAliases terminationGracePeriodSeconds",
    "WSL": ".wslconfig mirrored",
    "packages": "libgnutls30 libgnutls30t64",
    "wheels": "certifi cp313 manylinux_2_34 manylinux_2_34_x86_64 pywebtransport.libs",
    "Python": "Any Decimal Literal Mapping NamedTuple Optional OrderedDict Sequence TypedDict UUID "
    "__cause__ __dealloc__ date datetime time timedelta call_later loop.call_soon_threadsafe "
    "CERT_OPTIONAL WeakKeyDictionary .venv uvloop prometheus_client CancelledError GeneratorExit "
    "array.array mmap AsyncExitStack",
    "pytest": "tmp_path anyio_backend conftest.py pytest_pywebtransport.py",
    "our fixtures": "pair serving",
    "ISO 8601": "P1DT5400S PT1H30M",
    "Google style": "Args Raises Returns",
    "browsers": "AbortError NetworkError WebSocket cancel fetch protocols session.closed "
    "writer.ready",
    "frameworks": "DJANGO_SETTINGS_MODULE ProtocolTypeRouter StreamingResponse asgi.py "
    "database_sync_to_async request.stream settings.configure",
    "other libraries": "asgiref.sync.sync_to_async bbr1 cleanup_ctx numpy.frombuffer "
    "numpy.ascontiguousarray",
    # The example of a glob in the library's C.
    "prefix in C": "qe_",
    "examples of the reader's own": "authorization create_task users vote "
    "rooms shop demo faß.de localhost.crt localhost.key rooms.* "
    "rooms.python rooms.python.admin results.json quicengine.h sim.c udp.c "
    "test_reset_before_header_is_deferred",
}
FOREIGN_NAMES = frozenset(" ".join(FOREIGN.values()).split())
# They name what is gone, or what others have.
WITHOUT = ("CHANGELOG.md", "migrating.md")
CHECKED = [path for path in PAGES if path.name not in WITHOUT]


def spans(path: Path) -> Iterator[str]:
    """The pieces of inline code of a page."""
    for match in SPAN.finditer(re.sub(r"\{[\w:]+\}`[^`]*`", "", prose(path))):
        yield " ".join(match[2].split())


def exists(text: str, page: Path) -> bool:
    """Whether what looks like a name, a path of attributes, or a call, exists."""
    if text in FOREIGN_NAMES:
        return True
    if page.name in ("javascript.md", "without-udp.md") and javascript().issuperset(
        text.split(".")
    ):
        return True
    if NAME.fullmatch(text):
        return (
            is_known(text)
            or (text.startswith("test_") and text in test_names())
            # "`webtransport_sessions`, `_connections`": the same prefix.
            or (text.startswith("_") and any(name.endswith(text) for name in metrics()))
            or text in metrics()
            or f"{text}.md" == page.name
        )
    if PATH.fullmatch(text):
        return find(text) or any(ROOT.rglob(text)) or text in texts()
    return True


@functools.cache
def javascript() -> frozenset[str]:
    """Names in the JavaScript helper, which has a page of its own."""
    helper = ROOT / "examples" / "js"
    return frozenset(
        name for path in helper.rglob("*.js") for name in re.findall(r"\w+", path.read_text())
    )


def metrics() -> set[str]:
    """Names of metrics."""
    found: set[str] = set()
    for text in texts():
        if re.fullmatch(r"[a-z_]+", text):
            found |= {f"webtransport_{text}", f"webtransport_{text}_total", f"webtransport{text}"}
    return found


def test_names() -> set[str]:
    """Names of tests."""
    return {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"def (test_\w+)", path.read_text())
    }


test_names.__test__ = False  # type: ignore[attr-defined]


@pytest.mark.parametrize("path", CHECKED, ids=relative)
def test_names_in_running_text_exist(path: Path) -> None:
    assert sorted({text for text in spans(path) if not exists(text, path)}) == []


@pytest.mark.parametrize("path", CHECKED, ids=relative)
def test_calls_in_running_text_can_be_made(path: Path) -> None:
    wrong = []
    for text in spans(path):
        if re.fullmatch(r"(await |@)?[A-Za-z_][\w.]*\(.*\)", text):
            code = text.removeprefix("@").replace("…", "...")
            code = code.replace("(..., ", "(")  # "write(..., wait_flush=False)"
            if path.name != "javascript.md" or text.partition("(")[0] not in javascript():
                wrong += list(unknown_calls(ast.parse(code), text))
    assert wrong == []


def unknown_calls(tree: ast.AST, place: str) -> Iterator[str]:
    """Calls of what does not exist, and keywords that nothing of that name takes."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        last = name.rpartition(".")[2]
        known = keywords_of()
        ours = name.partition(".")[0] in VARIABLES and "." in name
        there = find(name) if ours else last in known or find(name) or is_known(name)
        if re.fullmatch(r"[\w.]+", name) and not there and name not in METHODS_ON_THE_WIRE:
            yield f"{place}: {name}"
        yield from unknown_keywords(node, place)


def unknown_keywords(node: ast.Call, place: str) -> Iterator[str]:
    taken = keywords_of().get(ast.unparse(node.func).rpartition(".")[2])
    if taken is not None and "**" not in taken:
        for each in node.keywords:
            if each.arg is not None and each.arg not in taken:
                yield f"{place}: {ast.unparse(node.func)}({each.arg}=...)"


# Of other objects than ours, or of the reader's.
METHODS_ON_THE_WIRE = frozenset(
    {
        "authorize",
        "cancel",
        "numpy.ascontiguousarray",
        "asyncio.run",
        "pubsub.publish",
        "pubsub.subscribe",
        "pubsub.unsubscribe",
        "pytest.mark.loops",
        "registry.register",
        "test_streams_come_back",
    }
)
# Functions of others that are called in code with names that ours have, too.
OTHERS = frozenset({"uvloop.run", "asyncio.run", "print", "asyncio.timeout", "numpy.empty"})


@pytest.mark.parametrize("path", CHECKED, ids=relative)
def test_keywords_in_code_exist(path: Path) -> None:
    wrong: list[str] = []
    for number, body in enumerate(blocks(path, "python"), 1):
        place = f"{relative(path)}:{number}"
        for node in ast.walk(ast.parse(body)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) not in OTHERS:
                own = {
                    each.name
                    for each in ast.walk(ast.parse(body))
                    if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)
                }
                if ast.unparse(node.func) not in own:
                    wrong += unknown_keywords(node, place)
    assert wrong == []


@pytest.mark.parametrize("path", CHECKED, ids=relative)
def test_settings_and_variables_exist(path: Path) -> None:
    """`name=value`, `VARIABLE=value`, `details["key"]`, `.attribute`, `pywebtransport[extra]`."""
    wrong = []
    for text in spans(path):
        if match := re.match(r"([A-Z_]+)=", text):
            wrong += [] if match[1] in makefile_variables() else [text]
        elif match := re.match(r"([a-z_]+)=", text):
            wrong += [] if is_known(match[1]) else [text]
        elif match := re.search(r'\b(?:details|headers)\["([\w-]+)"\]', text):
            wrong += [] if match[1] in texts() or "-" in match[1] else [text]
        elif (match := re.fullmatch(r"\.([a-z_]+)", text)) and text not in FOREIGN_NAMES:
            wrong += [] if is_known(match[1]) else [text]
        for group in re.findall(r"pywebtransport\[([\w,]+)\]", text):
            wrong += [text for extra in group.split(",") if extra not in extras()]
    assert wrong == []


@pytest.mark.parametrize("path", CHECKED, ids=relative)
def test_commands_can_be_run(path: Path) -> None:
    """Programs, modules and options of ours, in running text and in consoles."""
    wrong = []
    commands = [text for text in spans(path)] + [
        line.removeprefix("$ ")
        for body in blocks(path, "console")
        for line in body.splitlines()
        if line.startswith("$ ")
    ]
    for command in commands:
        if match := re.match(r"(?:\.venv/bin/)?python (\w+/[\w/]+\.py)(.*)", command):
            program = ROOT / match[1]
            source = program.read_text() if program.exists() else ""
            missing = [
                option for option in re.findall(r"--[\w-]+", match[2]) if option not in source
            ]
            wrong += [command] if missing or not source else []
        if match := re.match(r"(?:\.venv/bin/)?python -m (tests[\w.]*)", command):
            where = ROOT / match[1].replace(".", "/")
            wrong += [] if where.is_dir() or where.with_suffix(".py").exists() else [command]
    assert wrong == []


def test_what_does_not_exist_is_noticed() -> None:
    page = ROOT / "README.md"
    for text in (
        "keep_alive_interval",
        "no_such_name",
        "session.no_such_thing",
        "session.datagrams.no_such_thing",
        "test_that_is_gone",
        "webtransport_no_such_metric_total",
    ):
        assert not exists(text, page), text
    for text in (
        "connection_keepalive_timeout",
        "session.datagrams.stats",
        "webtransport_sessions",
    ):
        assert exists(text, page), text
    assert list(unknown_calls(ast.parse("session.close(code=1, cause='x')"), "here")) == [
        "here: session.close(cause=...)"
    ]
    assert list(unknown_calls(ast.parse("session.shut()"), "here")) == ["here: session.shut"]
