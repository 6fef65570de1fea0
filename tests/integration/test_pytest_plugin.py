"""The pytest plugin, in pytest runs of its own: with pytest-asyncio, with anyio, with neither."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path

import pytest

from tests.support.pages import blocks

ROOT = Path(__file__).resolve().parents[2]

# What is the same for all runners.
APPLICATION = """
    import asyncio
    import pytest
    from pywebtransport import ClientConfig, ServerApp, WebTransportClient
    from pywebtransport.testing import Network, VirtualClockLoop

    @pytest.fixture
    def webtransport_app():
        app = ServerApp()

        @app.route("/echo")
        async def echo(session):
            async for stream in session.incoming_bidirectional_streams():
                await stream.write_all(await stream.read_all())

        return app

    async def echo(client, url):
        session = await client.connect(f"{url}/echo")
        stream = await session.create_bidirectional_stream()
        await stream.write_all(b"hello")
        assert await stream.read_all() == b"hello"
"""
TESTS = """
    async def test_server_and_client(webtransport_server, webtransport_client):
        await echo(webtransport_client, webtransport_server.url)

    async def test_a_client_of_ones_own(webtransport_server):
        config = ClientConfig(server_certificate_hashes=[webtransport_server.certificate_hash])
        async with WebTransportClient(config=config) as client:
            await echo(client, webtransport_server.url)

    async def test_serving(webtransport_serve, webtransport_app, webtransport_certificate):
        async with webtransport_serve(webtransport_app) as served, served.client() as client:
            assert served.certificate_hash == webtransport_certificate.hash
            await echo(client, served.url)

    async def test_pair(webtransport_session_pair):
        client, server = webtransport_session_pair
        await client.datagrams.send(b"ping")
        assert await server.datagrams.receive(timeout=5) == b"ping"

    class TestOverrides:
        @pytest.fixture
        def webtransport_network(self):
            return Network(delay=0.05)

        @pytest.fixture
        def webtransport_client_config(self):
            return ClientConfig(user_agent="tester")

        async def test_pair(self, webtransport_session_pair, webtransport_network):
            client, server = webtransport_session_pair
            assert server.headers["user-agent"] == "tester"
            assert webtransport_network.packets_sent > 0
"""
VIRTUAL = """
    async def test_time_is_virtual(webtransport_session_pair, webtransport_network):
        loop = asyncio.get_running_loop()
        assert type(loop) is VirtualClockLoop
        client, server = webtransport_session_pair
        started = loop.time()
        with pytest.raises(TimeoutError):
            await server.datagrams.receive(timeout=3600)
        assert loop.time() - started == pytest.approx(3600)
        await client.close(code=3)
        assert (await server.wait_closed()).code == 3
"""


# Plugins that would only cost time.
WITHOUT = [
    part
    for name in ("cacheprovider", "xdist", "cov", "hypothesispytest")
    for part in ("-p", f"no:{name}")
]


def run(
    directory: Path, tests: str, *arguments: str, conftest: str = "", installed: bool = True
) -> tuple[int, str]:
    """Run pytest over one file of tests; returns its status and what it wrote."""
    (directory / "test_it.py").write_text(tests)
    (directory / "conftest.py").write_text(conftest)
    settings = ["[pytest]", "filterwarnings = error"]
    if "no:asyncio" not in arguments:
        settings.append("asyncio_default_fixture_loop_scope = function")
    (directory / "pytest.ini").write_text("\n".join(settings))
    # What an installation records: this is how pytest finds plugins.
    info = directory / "site" / "plugin-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin\nVersion: 1\n")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [f"{name} = {target}" for name, target in project["entry-points"]["pytest11"].items()]
    (info / "entry_points.txt").write_text("\n".join(["[pytest11]", *lines, ""]))
    path = os.pathsep.join([str(ROOT), *([str(directory / "site")] if installed else [])])
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *WITHOUT, *arguments],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": path, "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        timeout=100,
    )
    return done.returncode, done.stdout + done.stderr


def source(*parts: str) -> str:
    return "\n".join(textwrap.dedent(part) for part in parts)


LOOP_FACTORY = """
    from pywebtransport.testing import VirtualClockLoop

    def pytest_asyncio_loop_factories(config, item):
        return {"virtual": VirtualClockLoop}
"""


@pytest.mark.parametrize(
    ("mode", "others"), [("strict", ()), ("auto", ("-p", "no:anyio"))], ids=["strict", "auto"]
)
def test_fixtures_work_with_pytest_asyncio(
    tmp_path: Path, mode: str, others: tuple[str, ...]
) -> None:
    mark = "pytestmark = pytest.mark.asyncio" if mode == "strict" else ""
    tests = source(APPLICATION, mark, TESTS)
    status, output = run(tmp_path, tests, f"--asyncio-mode={mode}", *others)
    assert status == 0, output
    assert "5 passed" in output, output


def test_the_virtual_clock_works_with_pytest_asyncio(tmp_path: Path) -> None:
    tests = source(APPLICATION, "pytestmark = pytest.mark.asyncio", TESTS, VIRTUAL)
    status, output = run(tmp_path, tests, conftest=source(LOOP_FACTORY))
    assert status == 0, output
    assert "6 passed" in output, output


@pytest.mark.parametrize("others", [(), ("-p", "no:asyncio")], ids=["beside-asyncio", "alone"])
def test_fixtures_work_with_anyio(tmp_path: Path, others: tuple[str, ...]) -> None:
    backend = """
        pytestmark = pytest.mark.anyio

        @pytest.fixture
        def anyio_backend():
            return "asyncio"
    """
    status, output = run(tmp_path, source(APPLICATION, backend, TESTS), *others)
    assert status == 0, output
    assert "5 passed" in output, output


@pytest.mark.parametrize("installed", [False, True], ids=["not-recorded", "recorded"])
def test_the_plugin_can_be_named_on_the_command_line(tmp_path: Path, installed: bool) -> None:
    """As for an installation that was made before the package had a plugin."""
    tests = source(APPLICATION, "pytestmark = pytest.mark.asyncio", TESTS)
    status, output = run(tmp_path, tests, "-p", "pytest_pywebtransport", installed=installed)
    assert status == 0, output
    assert "5 passed" in output, output


def test_the_virtual_clock_works_with_anyio(tmp_path: Path) -> None:
    backend = """
        pytestmark = pytest.mark.anyio

        @pytest.fixture
        def anyio_backend():
            return "asyncio", {"loop_factory": VirtualClockLoop}
    """
    status, output = run(tmp_path, source(APPLICATION, backend, TESTS, VIRTUAL))
    assert status == 0, output
    assert "6 passed" in output, output


@pytest.mark.parametrize("plugin", ["asyncio", "anyio"])
def test_the_page_about_testing_runs(tmp_path: Path, plugin: str) -> None:
    *tests, factories, backend = blocks(ROOT / "docs" / "howto" / "testing.md", "python")
    conftest, other = (factories, "anyio") if plugin == "asyncio" else (backend, "asyncio")
    status, output = run(
        tmp_path, "\n".join(tests), f"--{plugin}-mode=auto", "-p", f"no:{other}", conftest=conftest
    )
    assert status == 0, output
    assert "5 passed" in output, output


def test_other_tests_do_not_import_the_package(tmp_path: Path) -> None:
    tests = """
        import sys

        def test_it():
            assert "pytest_pywebtransport" in sys.modules
            assert "pywebtransport" not in sys.modules
    """
    status, output = run(tmp_path, source(tests))
    assert status == 0, output
    assert "1 passed" in output, output


def test_mistakes_are_explained(tmp_path: Path) -> None:
    tests = """
        import pytest

        def test_no_coroutine(webtransport_session_pair):
            pass

        @pytest.mark.asyncio
        async def test_no_app(webtransport_server):
            pass

        @pytest.mark.anyio
        @pytest.mark.parametrize("anyio_backend", ["trio"])
        async def test_trio(webtransport_session_pair):
            pass
    """
    status, output = run(tmp_path, source(tests))
    assert status == 1, output
    assert "3 errors" in output, output
    for part in (
        "webtransport_session_pair is for coroutine tests that pytest-asyncio or the plugin",
        "webtransport_server serves what a fixture webtransport_app returns",
        "pywebtransport runs on asyncio; let a fixture anyio_backend return 'asyncio'",
    ):
        assert part in output, output
