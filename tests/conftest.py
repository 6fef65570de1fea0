"""Fixtures and rules for all Python tests.

- ``async def test_*`` runs on asyncio and on uvloop; ``@pytest.mark.loops("asyncio")`` chooses.
  On ``"virtual"`` waiting takes no time; see ``pywebtransport.testing.VirtualClockLoop``.
- No test runs longer than 60 seconds; ``@pytest.mark.limit(seconds)`` changes that.
- ``-n 2`` runs them in two processes: nothing may be shared by a name that is always the same. A
  port that must be known before it is bound is one of ``tests.support.ports``.
- After each test nothing may be left: no task, timer, thread, file descriptor or engine object,
  no ERROR log, no unhandled exception of the event loop, no warning. A test that provokes an
  ERROR log names it: ``expected_logs("handler of /x raised")``.
"""

from __future__ import annotations

import faulthandler
import functools
import gc
import inspect
import os
import signal
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

from tests.support.leaks import ExpectedLogs, LeakCheck
from tests.support.loops import DEFAULT_LOOPS, run_test, warm_up

if TYPE_CHECKING:
    from pywebtransport import ClientConfig, ServerConfig, WebTransportSession
    from tests.support.certificates import Certificates
    from tests.support.endpoints import Served
    from tests.support.redis_server import RedisServer

DEFAULT_LIMIT = 60.0
# Sanitizers and valgrind make everything slower.
SLOWNESS = float(os.environ.get("PYWEBTRANSPORT_TEST_SLOWNESS", "1"))
# Beyond the limit of a test: for loops that are stuck and cannot cancel it.
GRACE = 30.0

_stderr = pytest.StashKey[int]()
_figures = pytest.StashKey[list[str]]()


# Whether a value was made quickly says something about the machine only. The first text of a fresh
# checkout takes seconds: a table of all characters is made for it.
hypothesis.settings.register_profile(
    "repository",
    deadline=None,
    suppress_health_check=[
        hypothesis.HealthCheck.differing_executors,  # a parametrized test is several functions
        hypothesis.HealthCheck.too_slow,
    ],
)
hypothesis.settings.load_profile("repository")


# ------------------------------------------------------------------------ hooks


def pytest_configure(config: pytest.Config) -> None:
    # A shell that runs this in the background ignores SIGINT, and so would every process that
    # the tests start: it is inherited.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.stash[_figures] = []
    config.addinivalue_line("markers", "loops(*names): event loops to run a coroutine test on")
    config.addinivalue_line("markers", "limit(seconds): time after which the test fails")
    filters = config.getini("filterwarnings")
    if "error" not in filters:
        config.addinivalue_line("filterwarnings", "error")
    capture = config.pluginmanager.getplugin("capturemanager")
    if capture is None:
        config.stash[_stderr] = os.dup(2)
    else:
        with capture.global_and_fixture_disabled():
            config.stash[_stderr] = os.dup(2)


def pytest_unconfigure(config: pytest.Config) -> None:
    os.close(config.stash[_stderr])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Processes that share the tests have to agree on their names, and addresses differ.
    for item in items:
        if " at 0x" in item.nodeid:
            raise pytest.UsageError(f"{item.nodeid}: the address of an object; give it an id")


def pytest_collection_finish() -> None:
    warm_up()
    # What exists by now stays: collections during the tests need not look at it.
    gc.collect()
    gc.freeze()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if not inspect.iscoroutinefunction(metafunc.function):
        return
    marker = metafunc.definition.get_closest_marker("loops")
    names = DEFAULT_LOOPS if marker is None else marker.args
    if "loop_name" not in metafunc.fixturenames:
        metafunc.fixturenames.append("loop_name")
    metafunc.parametrize("loop_name", list(names), ids=list(names))


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if not inspect.iscoroutinefunction(pyfuncitem.function):
        return None
    names = inspect.signature(pyfuncitem.function).parameters
    arguments = {name: pyfuncitem.funcargs[name] for name in names if name in pyfuncitem.funcargs}
    test = functools.partial(pyfuncitem.obj, **arguments)
    run_test(test, pyfuncitem.callspec.params["loop_name"], limit_of(pyfuncitem))
    return True


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    faulthandler.dump_traceback_later(
        limit_of(item) + GRACE * SLOWNESS, exit=True, file=item.config.stash[_stderr]
    )
    check = LeakCheck()
    try:
        result = yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        check.close()
    problems = check.problems(getattr(item, "funcargs", {}).get("expected_logs"))
    assert not problems, "\n".join(problems)
    return result


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):  # a process of a parallel run
        session.config.workeroutput["figures"] = session.config.stash[_figures]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """A process of a parallel run ended: its figures are shown with the others."""
    node.config.stash[_figures].extend(getattr(node, "workeroutput", {}).get("figures", []))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    figures = terminalreporter.config.stash[_figures]
    if figures:
        terminalreporter.section("measured figures")
        for line in figures:
            terminalreporter.write_line(line)


def limit_of(item: pytest.Item) -> float:
    """Seconds that a test may take."""
    marker = item.get_closest_marker("limit")
    return SLOWNESS * (DEFAULT_LIMIT if marker is None else float(marker.args[0]))


# --------------------------------------------------------------------- fixtures


@pytest.fixture(autouse=True, scope="session")
def own_state_directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Servers keep their secret here, and not where those of the user have theirs."""
    directory = tmp_path_factory.mktemp("state")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("STATE_DIRECTORY", raising=False)
        patch.setenv("XDG_STATE_HOME", str(directory))
        yield directory


@pytest.fixture(autouse=True, scope="module")
def frozen_objects() -> None:
    """What exists before the tests of a module stays out of the collector's sight.

    Each coroutine test ends with two collections: with all that earlier tests left to the runner,
    or thawed, those would take longer than the tests.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def fresh_logs() -> None:
    """What earlier tests told often enough may be told again."""
    from pywebtransport.utils import logs

    logs._shared.clear()


@pytest.fixture
def expected_logs() -> ExpectedLogs:
    """Call it with a pattern for each ERROR log that the test provokes."""
    return ExpectedLogs()


@pytest.fixture
def record_figures(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Show measured figures at the end of the run: ``record_figures(growth=0.01)``."""

    def record(**figures: object) -> None:
        shown = ", ".join(f"{name} {value}" for name, value in figures.items())
        request.config.stash[_figures].append(f"{request.node.name}: {shown}")

    return record


@pytest.fixture(scope="session")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Certificates of every kind, see ``Certificates``."""
    from tests.support.certificates import Certificates

    return Certificates(tmp_path_factory.mktemp("certs"))


@pytest.fixture
def server_config(certs: Certificates) -> Callable[..., ServerConfig]:
    """Make a server's configuration; keywords are its fields."""
    from tests.support.endpoints import make_server_config

    return functools.partial(make_server_config, certs)


@pytest.fixture
def client_config(certs: Certificates) -> Callable[..., ClientConfig]:
    """Make a client's configuration that trusts ``certs.authority``; keywords are its fields."""
    from tests.support.endpoints import make_client_config

    return functools.partial(make_client_config, certs)


@pytest.fixture
def serving(certs: Certificates) -> Callable[..., AbstractAsyncContextManager[Served]]:
    """``async with serving(target, **fields) as served``: a server on a free port.

    ``target`` is a ``ServerApp``, a handler for every path, a dictionary of handlers by path, or
    None for a handler that does nothing; ``fields`` are those of ``ServerConfig``.
    """
    from tests.support.endpoints import serving

    return functools.partial(serving, certs)


@pytest.fixture
def pair(
    certs: Certificates,
) -> Callable[..., AbstractAsyncContextManager[tuple[WebTransportSession, WebTransportSession]]]:
    """``async with pair(client={...}, server={...}) as (client, server)``: both ends of a session.

    The dictionaries are fields of the two configurations.
    """
    from tests.support.endpoints import pair

    return functools.partial(pair, certs)


@pytest.fixture(scope="session")
def redis_server_process() -> Iterator[RedisServer]:
    """The one Redis server of the whole run; tests take ``redis_server``."""
    from tests.support.redis_server import RedisServer

    server = RedisServer()
    yield server
    server.close()


@pytest.fixture
def redis_server(redis_server_process: RedisServer) -> RedisServer:
    """A running, empty ``redis-server``: ``.url``, ``.restart()``, ``.stop()``, ``.start()``."""
    redis_server_process.start()
    redis_server_process.command("FLUSHALL")
    return redis_server_process
