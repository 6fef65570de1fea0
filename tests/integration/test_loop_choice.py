"""Which event loop ``run`` and ``run_workers`` use, and that the log says so."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable
from multiprocessing import Pipe
from pathlib import Path

import pytest

from pywebtransport import ConfigurationError, ServerApp
from pywebtransport.server import current_worker, run_workers
from tests.support.endpoints import ServerFactory
from tests.support.steps import until

WANTED = "event loop: "


def module_of_loop(app: ServerApp, **options: object) -> str:
    """Serve until SIGTERM, which comes soon; return where the class of the event loop is from."""
    seen: list[str] = []
    tasks: list[asyncio.Task[None]] = []

    async def stop_when_serving() -> None:
        await until(lambda: app.server.is_serving)
        os.kill(os.getpid(), signal.SIGTERM)

    @app.on_startup
    async def started() -> None:
        loop = asyncio.get_running_loop()
        seen.append(type(loop).__module__.partition(".")[0])
        tasks.append(loop.create_task(stop_when_serving()))

    app.run(host="127.0.0.1", port=0, **options)  # type: ignore[arg-type]
    return seen[0]


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [
        (record.levelname, record.getMessage())
        for record in caplog.records
        if record.getMessage().startswith(WANTED)
    ]


@pytest.fixture
def app(server_config: ServerFactory, caplog: pytest.LogCaptureFixture) -> ServerApp:
    caplog.set_level(logging.INFO, logger="pywebtransport.server")
    return ServerApp(config=server_config())


def test_uvloop_is_used_when_it_is_installed(
    app: ServerApp, caplog: pytest.LogCaptureFixture
) -> None:
    assert module_of_loop(app) == "uvloop"
    ((level, text),) = lines(caplog)
    assert level == "INFO"
    assert text == "event loop: uvloop; loop_factory=asyncio.new_event_loop would choose asyncio"


def test_the_application_may_choose_asyncio(
    app: ServerApp, caplog: pytest.LogCaptureFixture
) -> None:
    assert module_of_loop(app, loop_factory=asyncio.new_event_loop) == "asyncio"
    assert lines(caplog) == []


def test_what_is_no_event_loop_is_refused(app: ServerApp) -> None:
    with pytest.raises(ConfigurationError, match="loop_factory = 3: expected an AbstractEventLoop"):
        app.run(loop_factory=lambda: 3)  # type: ignore[arg-type,return-value]


def test_asyncio_is_used_without_uvloop(
    app: ServerApp, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)  # how Python notes that there is none
    assert module_of_loop(app) == "asyncio"
    ((level, text),) = lines(caplog)
    assert level == "INFO"
    assert text.startswith("event loop: asyncio; uvloop cannot be imported")
    assert 'pip install "uvloop>=0.19"' in text


def test_a_broken_uvloop_is_reported(
    app: ServerApp,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    (tmp_path / "uvloop.py").write_text("raise ImportError('libuv.so.1: no such file')\n")
    monkeypatch.delitem(sys.modules, "uvloop")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert module_of_loop(app) == "asyncio"
    ((level, text),) = lines(caplog)
    assert level == "WARNING"
    assert "uvloop is installed, but cannot be imported (libuv.so.1: no such file)" in text


def test_an_event_loop_policy_is_respected(
    app: ServerApp, caplog: pytest.LogCaptureFixture
) -> None:
    if sys.version_info >= (3, 14):  # policies are deprecated there, and have no effect
        assert module_of_loop(app) == "uvloop"
        return

    class Loop(asyncio.SelectorEventLoop):
        pass

    class Policy(asyncio.DefaultEventLoopPolicy):
        def new_event_loop(self) -> asyncio.AbstractEventLoop:
            return Loop()

    before = asyncio.get_event_loop_policy()
    asyncio.set_event_loop_policy(Policy())
    try:
        assert module_of_loop(app) == Loop.__module__.partition(".")[0]
    finally:
        asyncio.set_event_loop_policy(before)
    assert lines(caplog) == [("INFO", "event loop: chosen by the event loop policy")]


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
@pytest.mark.parametrize(
    ("factory", "expected"), [(None, "uvloop"), (asyncio.new_event_loop, "asyncio")]
)
def test_all_workers_use_the_same(
    server_config: ServerFactory,
    caplog: pytest.LogCaptureFixture,
    factory: Callable[[], asyncio.AbstractEventLoop] | None,
    expected: str,
) -> None:
    caplog.set_level(logging.INFO, logger="pywebtransport.server")
    receiver, sender = Pipe(duplex=False)

    async def main() -> None:
        sender.send(type(asyncio.get_running_loop()).__module__.partition(".")[0])
        worker = current_worker()
        if worker is not None and worker.index == 0:
            os.kill(os.getppid(), signal.SIGTERM)
        await asyncio.Event().wait()

    config = server_config(workers=2, drain_timeout=0, close_timeout=0.1)
    run_workers(main, config=config, loop_factory=factory)
    seen = []
    with receiver, sender:
        while receiver.poll():
            seen.append(receiver.recv())
    # The other worker may be told before its main began.
    assert set(seen) == {expected}
    assert len(lines(caplog)) == (factory is None)
