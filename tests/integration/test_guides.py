"""The programs of the tutorial and the guides do what their pages say."""

import asyncio
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from pywebtransport import ClientConfig, ServerApp, WebTransportClient, WebTransportSession
from pywebtransport.exceptions import SessionRejectedError
from pywebtransport.testing import serve
from tests.support.network import HAS_UDP

from .test_examples import EXAMPLES, load

TUTORIAL = EXAMPLES / "tutorial"


@pytest.fixture
def tutorial(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The directory of the steps, from where they import each other."""
    monkeypatch.syspath_prepend(TUTORIAL)
    yield TUTORIAL
    sys.modules.pop("step5", None)


async def totals(session: WebTransportSession, wanted: dict[str, int]) -> None:
    """Wait until the totals arrive; they come again and again."""
    async with asyncio.timeout(20):
        while json.loads(await session.datagrams.receive()) != wanted:
            pass


async def vote(session: WebTransportSession, choice: str) -> None:
    async with await session.create_unidirectional_stream() as stream:
        await stream.write(choice)


def app_of(step: int) -> ServerApp:
    app = load(TUTORIAL / f"step{step}.py").app
    assert isinstance(app, ServerApp)
    return app


async def test_step_1_answers() -> None:
    async with (
        serve(app_of(1)) as served,
        served.client() as client,
        await client.connect(f"{served.url}/poll") as session,
    ):
        await session.datagrams.send(b"soup")
        assert await session.datagrams.receive(timeout=10) == b"you said soup"


async def test_step_2_counts_votes_and_tells_everyone() -> None:
    async with serve(app_of(2)) as served, served.client() as client:
        url = f"{served.url}/poll"
        async with await client.connect(url) as one, await client.connect(url) as two:
            await vote(one, "soup")
            await vote(two, "soup")
            await vote(two, "stones")
            await totals(one, {"pizza": 0, "soup": 2})
            await totals(two, {"pizza": 0, "soup": 2})


async def test_step_4_has_a_poll_for_each_path() -> None:
    async with serve(app_of(4)) as served, served.client() as client:
        async with await client.connect(f"{served.url}/poll/colour") as session:
            await vote(session, "blue")
            await totals(session, {"red": 0, "green": 0, "blue": 1})
        session = await client.connect(f"{served.url}/poll/weather")
        assert (await session.wait_closed()).code == 404


@pytest.mark.parametrize("step", [5, 6])
async def test_steps_5_and_6_want_a_token(step: int, tutorial: Path) -> None:
    app_of(step)
    module = sys.modules.get("step5") or load(tutorial / "step5.py")
    token = module.token_of("ann")
    async with serve(module.app) as served, served.client() as client:
        for wrong in "", "?token=ann.00", f"?token={token}0":
            with pytest.raises(SessionRejectedError) as refused:
                await client.connect(f"{served.url}/poll/lunch{wrong}")
            assert refused.value.status_code == 401
        async with await client.connect(f"{served.url}/poll/lunch?token={token}") as session:
            await vote(session, "pizza")
            await totals(session, {"pizza": 1, "soup": 0})
            await vote(session, "soup")
            await totals(session, {"pizza": 0, "soup": 1})


async def test_tokens_of_the_authentication_guide() -> None:
    guide = load(EXAMPLES / "authentication.py")
    assert guide.user_of(guide.token_for("Zoë", now=100), now=159) == "Zoë"
    assert guide.user_of(guide.token_for("Zoë", now=100), now=161) is None
    assert guide.user_of("", now=0) is None
    loop_time = guide.time.time()
    good = guide.token_for("ann", now=loop_time)
    async with serve(guide.app) as served, served.client() as client:
        async with await client.connect(f"{served.url}/greet?token={good}") as session:
            assert await session.datagrams.receive(timeout=10) == b"hello, ann"
        with pytest.raises(SessionRejectedError):
            await client.connect(f"{served.url}/greet?token={good[:-1]}")
        async with await client.connect(f"{served.url}/log-in") as session:
            stream = await session.create_bidirectional_stream()
            await stream.write_all(good)
            assert await stream.read_all() == b"hello, ann"
        session = await client.connect(f"{served.url}/log-in")
        stream = await session.create_bidirectional_stream()
        await stream.write_all(b"nonsense")
        assert (await session.wait_closed()).code == 401


async def test_fastapi_and_sessions_share_a_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEBTRANSPORT_PORT", "0")
    guide = load(EXAMPLES / "frameworks" / "fastapi_beside.py")
    async with guide.lifespan(guide.web):
        transport = httpx.ASGITransport(app=guide.web)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as page:
            where = (await page.get("/where")).json()
            config = ClientConfig(server_certificate_hashes=[where["certificate_hash"]])
            async with (
                WebTransportClient(config=config) as client,
                await client.connect(where["url"]) as session,
            ):
                # The client may know of its session before the handler runs.
                while (await page.post("/tell/hello")).json() != {"sent": 1}:
                    pass
                assert await session.datagrams.receive(timeout=10) == b"hello"


async def test_no_line_of_the_log_has_a_token(caplog: pytest.LogCaptureFixture) -> None:
    """Browsers have to put tokens into the query of the URL."""
    caplog.set_level("DEBUG")
    guide = load(EXAMPLES / "authentication.py")
    good = guide.token_for("ann", now=guide.time.time())
    async with serve(guide.app) as served, served.client() as client:
        async with await client.connect(f"{served.url}/greet?token={good}") as session:
            assert await session.datagrams.receive(timeout=10) == b"hello, ann"
        with pytest.raises(SessionRejectedError):
            await client.connect(f"{served.url}/greet?token=secret-and-wrong")
    # The second connection resumes the first: its SETTINGS come before the end of the handshake.
    assert "no WebTransport draft in common" not in caplog.text
    request = "CONNECT /greet?…" if HAS_UDP else "CONNECT /greet?… WebSocket"
    assert f'"{request}" 200' in caplog.text
    assert f'"{request}" 401' in caplog.text
    ours = [line for line in caplog.text.splitlines() if "pywebtransport" in line]
    assert [line for line in ours if good in line or "secret-and-wrong" in line] == []
