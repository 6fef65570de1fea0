"""``WebTransportBrowser``: one session at a time, and a history."""

from __future__ import annotations

import asyncio

import pytest

from pywebtransport.client import WebTransportBrowser
from pywebtransport.exceptions import ClientError, ConfigurationError, SessionRejectedError
from pywebtransport.session import WebTransportSession
from tests.support.endpoints import ClientFactory, Served, Serving
from tests.support.steps import cancelled_at, round_trip, until


def paths(served: Served) -> list[str]:
    """Paths of the sessions that are open at the server."""
    return sorted(session.path for session in served.server.sessions)


async def test_back_and_forward(serving: Serving, client_config: ClientFactory) -> None:
    async with serving() as served, WebTransportBrowser.create(config=client_config()) as browser:
        assert browser.current_session is None
        assert await browser.get_history() == []
        assert await browser.back() is None
        assert await browser.forward() is None
        assert await browser.refresh() is None
        urls = [served.url(path) for path in ("/a", "/b", "/c")]
        for url in urls:
            session = await browser.navigate(url)
            assert browser.current_session is session
        assert await browser.get_history() == urls
        assert await browser.forward() is None
        assert browser.current_session is session

        back = await browser.back()
        assert back is browser.current_session
        assert back is not None
        assert back.path == "/b"
        await until(lambda: paths(served) == ["/b"])
        await round_trip(back, served.server.sessions[0], b"one session at a time")
        assert (await browser.back()).path == "/a"  # type: ignore[union-attr]
        assert await browser.back() is None
        assert (await browser.forward()).path == "/b"  # type: ignore[union-attr]
        assert await browser.get_history() == urls

        # Going elsewhere forgets what was ahead.
        await browser.navigate(url=served.url("/d"))
        assert await browser.get_history() == [urls[0], urls[1], served.url("/d")]
        assert await browser.forward() is None
        await until(lambda: paths(served) == ["/d"])


async def test_refresh_opens_what_the_server_ended(
    serving: Serving, client_config: ClientFactory
) -> None:
    async with serving() as served, WebTransportBrowser(config=client_config()) as browser:
        first = await browser.navigate(served.url("/page"))
        await served.server.sessions[0].close(code=3, close_connection=False)
        await first.wait_closed()
        assert browser.current_session is first
        second = await browser.refresh()
        assert second is not None
        assert second is not first
        assert second.is_ready
        assert await browser.get_history() == [served.url("/page")]
        third = await browser.refresh()
        assert second.is_closed
        assert third is browser.current_session
        await until(lambda: paths(served) == ["/page"])


async def test_navigation_that_fails_changes_nothing(
    serving: Serving, client_config: ClientFactory
) -> None:
    async def handler(session: WebTransportSession) -> None:
        """Leaves the session to the client."""

    targets = {"/good": handler, "/later": handler}
    async with serving(targets) as served, WebTransportBrowser(config=client_config()) as browser:
        await browser.navigate(served.url("/later"))
        current = await browser.navigate(served.url("/good"))
        history = await browser.get_history()
        with pytest.raises(SessionRejectedError):
            await browser.navigate(served.url("/bad"))
        with pytest.raises(ConfigurationError):
            await browser.navigate("ftp://127.0.0.1/")
        served.app.router.remove_route("/later")
        with pytest.raises(SessionRejectedError):
            await browser.back()
        assert browser.current_session is current
        assert await browser.get_history() == history
        await round_trip(current, served.server.sessions[0], b"still here")
        served.app.route("/later")(handler)
        assert (await browser.back()).path == "/later"  # type: ignore[union-attr]


async def test_calls_at_the_same_time_run_one_after_the_other(
    serving: Serving, client_config: ClientFactory
) -> None:
    async with serving() as served, WebTransportBrowser(config=client_config()) as browser:
        urls = [served.url(f"/{number}") for number in range(5)]
        sessions = await asyncio.gather(*map(browser.navigate, urls))
        assert await browser.get_history() == urls
        assert browser.current_session is sessions[-1]
        assert [session.is_closed for session in sessions] == [True] * 4 + [False]
        await until(lambda: paths(served) == ["/4"])
        await asyncio.gather(browser.back(), browser.back(), browser.forward())
        assert browser.current_session is not None
        assert browser.current_session.path == "/3"


async def test_history_is_bounded(serving: Serving, client_config: ClientFactory) -> None:
    async with serving() as served, WebTransportBrowser(config=client_config()) as browser:
        for number in range(53):
            await browser.navigate(served.url(f"/{number}"))
        history = await browser.get_history()
        assert history == [served.url(f"/{number}") for number in range(3, 53)]
        assert (await browser.back()).path == "/51"  # type: ignore[union-attr]
        await until(lambda: paths(served) == ["/51"])


async def test_navigation_cancelled_at_each_await(
    serving: Serving, client_config: ClientFactory
) -> None:
    """Either session is current, and no other is open."""
    async with serving() as served:
        index = 0
        while True:
            async with WebTransportBrowser(config=client_config()) as browser:
                await browser.navigate(served.url("/old"))
                reached = await cancelled_at(
                    lambda browser=browser: browser.navigate(served.url("/new")), index
                )
                current = browser.current_session
                assert current is not None
                assert current.is_ready
                assert current.path.removeprefix("/") in ("old", "new")
                await until(lambda current=current: paths(served) == [current.path])
                await until(lambda: len(served.server.connections) == 1)
                assert len(await browser.get_history()) == (1 if current.path == "/old" else 2)
                if not reached:
                    break
            await until(lambda: not served.server.sessions)
            index += 1
        assert index >= 2


async def test_close_ends_a_navigation_under_way(
    serving: Serving, client_config: ClientFactory
) -> None:
    asked, leave = asyncio.Event(), asyncio.Event()

    async def hesitate(session: WebTransportSession) -> bool:
        if session.path == "/slow":
            asked.set()
            await leave.wait()
        return True

    async with serving() as served:
        served.app.add_middleware(hesitate)
        browser = WebTransportBrowser(config=client_config())
        session = await browser.navigate(served.url("/"))
        navigation = asyncio.create_task(browser.navigate(served.url("/slow")))
        await asked.wait()
        await browser.close()
        with pytest.raises(ClientError, match="closed"):
            await navigation
        await browser.close()
        assert browser.is_closed
        assert browser.current_session is None
        assert session.is_closed
        with pytest.raises(ClientError, match="closed"):
            await browser.navigate(served.url("/"))
        with pytest.raises(ClientError, match="closed"):
            await browser.__aenter__()
        leave.set()
