"""The examples with a page do what they are for, in Chromium."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import hashlib
import random
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pywebtransport import connect
from pywebtransport.exceptions import StreamResetError
from pywebtransport.rpc import RpcManager
from tests.support.ports import free_port

from .chromium import Chromium, Tab
from .driver import Browser
from .examples import command, drag, started, until
from .kinds import KINDS

pytestmark = [
    pytest.mark.loops("asyncio"),
    pytest.mark.parametrize("kind", KINDS[:1], ids=lambda kind: kind.name, indirect=True),
]
OPEN = "example.connection.state === 'open'"
TIMEOUT = 30.0


@pytest.fixture
def open_tab(browser: Browser) -> Iterator[Callable[[str], Tab]]:
    """Opens a page in a tab of its own."""
    assert isinstance(browser, Chromium)
    tabs: list[Tab] = []

    def opened(url: str) -> Tab:
        tabs.append(browser.open_page(url))
        return tabs[-1]

    yield opened
    for tab in tabs:
        tab.close()


async def target(tab: Tab) -> tuple[str, str]:
    """URL and certificate hash of the server of a page."""
    config = await tab.run("async () => (await fetch('config.json')).json()")
    return config["url"], config["certificateHash"]


async def test_whiteboard_shows_everybody_the_same(open_tab: Callable[[str], Tab]) -> None:
    with started("whiteboard.py") as example:
        one, two = open_tab(example.url), open_tab(example.url)
        for tab in (one, two):
            await until(tab, OPEN)
        await until(one, "document.getElementById('people').textContent === '2'")
        await drag(one, [(200 + 10 * step, 300 + 5 * step) for step in range(20)])
        await drag(two, [(500, 300)])
        whole = "example.strokes().map(({ points }) => points.length)"
        sizes = "example.strokes().map(({ points }) => points.length).sort().join()"
        drawn = await until(one, f"example.strokes().length === 2 && {sizes}")
        await until(two, f"{sizes} === '{drawn}'")
        # A page that comes later gets it all, and paints it.
        late = open_tab(example.url)
        await until(late, f"{sizes} === '{drawn}'")
        assert max(await late.run(f"() => {whole}")) >= 20
        colored = (
            "document.querySelector('canvas').getContext('2d')"
            ".getImageData(0, 0, 1000, 600).data.some((value) => value > 0)"
        )
        await until(late, colored)
        # Where the mouse of another page is.
        await one.call("Input.dispatchMouseEvent", type="mouseMoved", x=333, y=333)
        await until(late, "document.querySelectorAll('.pointer').length > 0")
        await two.run("() => document.getElementById('clear').click()")
        for tab in (one, late):
            await until(tab, "example.strokes().length === 0")
        assert not await late.run(f"() => {colored}")


async def test_chat_connects_pages_and_terminals(open_tab: Callable[[str], Tab]) -> None:
    with started("chat_page.py") as example:
        tab = open_tab(example.url)
        await until(tab, "example.lines().some((line) => line === 'You are in lobby.')")
        with command(example.line(), "--name", "ann", stdin=subprocess.PIPE) as terminal:
            assert terminal.stdin is not None
            assert terminal.stdout is not None
            assert terminal.stdout.readline() == "you are in lobby\n"
            await tab.run(
                """() => {
                  document.getElementById("name").value = "bob";
                  document.getElementById("text").value = "<b>hello</b> é";
                  document.querySelector("form button").click();
                }"""
            )
            assert terminal.stdout.readline() == "bob: <b>hello</b> é\n"
            terminal.stdin.write("hello from a terminal\n")
            terminal.stdin.flush()
            said = "ann\nhello from a terminal"
            await until(tab, f"example.lines().some((line) => line === {said!r})")
            assert await tab.run("() => document.querySelectorAll('#lines b').length") == 0
            terminal.stdin.close()
            assert terminal.wait(TIMEOUT) == 0
        # Another room.
        await tab.run(
            """() => {
              const room = document.getElementById("room");
              room.value = "other";
              room.dispatchEvent(new Event("change"));
            }"""
        )
        await until(tab, "example.lines().at(-1) === 'You are in other.'")


async def test_game_moves_players_and_counts_coins(open_tab: Callable[[str], Tab]) -> None:
    with started("game.py") as example:
        tab, other = open_tab(example.url), open_tab(example.url)
        for one in (tab, other):
            await until(one, "example.me()")
        x = (await tab.run("() => example.me()"))[1]
        key = "ArrowRight" if x < 0.5 else "ArrowLeft"
        await tab.call("Input.dispatchKeyEvent", type="keyDown", key=key)
        await until(tab, f"Math.abs(example.me()[1] - {x}) > 0.1")
        await tab.call("Input.dispatchKeyEvent", type="keyUp", key=key)
        await until(other, "document.querySelectorAll('#scores li').length === 2")
        tab.close()
        await until(other, "document.querySelectorAll('#scores li').length === 1")


async def test_dashboard_goes_on_after_its_server_was_restarted(
    open_tab: Callable[[str], Tab],
) -> None:
    ports = {"port": free_port(), "page_port": free_port()}
    with started("dashboard.py", "--interval", "0.02", **ports) as example:
        tab = open_tab(example.url)
        await until(tab, "example.samples().length > 5")
        sample = await tab.run("() => example.samples().at(-1)")
        assert 0 <= sample["cpu"] <= 200
        assert sample["sent"] > 0
        assert sample["pages"] == 1
        lines = "[...document.querySelectorAll('.line')].map((line) => line.getAttribute('d'))"
        await until(tab, f"{lines}.every((line) => line?.length > 20)")
        # A page that opens later begins with the past.
        late = open_tab(example.url)
        await until(late, f"example.samples().some((sample) => sample.at === {sample['at']})")
    await until(tab, "example.connection.state !== 'open'")
    newest = await tab.run("() => example.samples().at(-1).at")
    with started("dashboard.py", "--interval", "0.02", **ports):
        # It has another certificate, whose hash the page fetches.
        await until(tab, f"example.samples().at(-1).at > {newest}")


async def test_video_is_shown(open_tab: Callable[[str], Tab]) -> None:
    with started("video.py", "--rate", "100") as example:
        tab = open_tab(example.url)
        await until(tab, "example.counts.shown > 10")
        counts = await tab.run("() => example.counts")
        assert counts["received"] >= counts["shown"] * (320 * 180 + 24)
        image = "document.querySelector('canvas').getContext('2d').getImageData(0, 0, 320, 180)"
        assert await tab.run(f"() => new Set(new Uint32Array({image}.data.buffer)).size") > 50


async def test_video_frames_that_are_late_are_dropped(open_tab: Callable[[str], Tab]) -> None:
    """A viewer that does not read gives no credit back: frames miss their deadlines."""
    with started("video.py", "--rate", "200") as example:
        url, digest = await target(open_tab(example.url))
        unread = []
        late = 0
        async with connect(url, server_certificate_hashes=[digest]) as session:
            streams = session.incoming_unidirectional_streams()
            # Until nothing arrives any more, for longer than a frame may take.
            with contextlib.suppress(builtins.TimeoutError):
                while True:
                    async with asyncio.timeout(2):
                        unread.append(await anext(streams))
            for stream in unread:
                stream.stop_sending(0)
            async for stream in streams:
                with contextlib.suppress(StreamResetError):
                    late = struct.unpack("!QQHHI", await stream.readexactly(24))[4]
                    await stream.read_all()
                if late > 5:
                    break
        assert late > 5


async def test_transfer_goes_on_where_it_stopped(
    open_tab: Callable[[str], Tab], tmp_path: Path
) -> None:
    data = random.Random(1).randbytes(3_000_000)
    file = tmp_path / "data.bin"
    file.write_bytes(data)
    about = file.stat()
    identity = f"{file.resolve()} {about.st_size} {about.st_mtime_ns}"
    key = hashlib.sha256(identity.encode()).hexdigest()
    there = tmp_path / "there"
    with started("transfer.py", "serve", str(there)) as example:
        line = example.line().replace("FILE", str(file))
        *_, url, digest = line.split()
        # A sender that stops within the file.
        async with (
            connect(url, server_certificate_hashes=[digest]) as session,
            RpcManager(session) as rpc,
        ):
            number, offset = await rpc.call("begin", file.name, len(data), key)
            assert offset == 0
            stream = await session.create_unidirectional_stream()
            await stream.write(number.to_bytes(4) + data[:1_000_000])
            await stream.close()
            await rpc.call("begin", file.name, len(data), key)
        with command(line) as sender:
            lines = sender.communicate(timeout=TIMEOUT)[0].splitlines()
        assert sender.returncode == 0
        begun = int(lines[0].split()[3])
        assert lines[0] == f"begins at byte {begun} of 3000000"
        assert 0 < begun <= 1_000_000
        assert "100%" in lines[-2]
        assert lines[-1] == f"sent, SHA-256 {hashlib.sha256(data).hexdigest()}"
        assert (there / "data.bin").read_bytes() == data
        assert list(there.iterdir()) == [there / "data.bin"]

        tab = open_tab(example.url)
        await until(tab, OPEN)
        await tab.run(
            """() => {
              const data = new Uint8Array(4_000_000).map((_, index) => (index * index) % 251);
              example.add([new File([data], "from the page.bin", { lastModified: 1 })]);
            }"""
        )
        await until(tab, "example.transfers[0].state === 'sending'")
        await tab.run("() => example.connection.session.close()")
        await until(tab, "example.transfers[0].state === 'sent'")
        expected = bytes((index * index) % 251 for index in range(4_000_000))
        assert (there / "from the page.bin").read_bytes() == expected
        digest = hashlib.sha256(expected).hexdigest()
        assert await tab.run("() => example.transfers[0].sha256") == digest
        # A name is used once.
        await tab.run("() => example.add([new File(['x'], 'data.bin')])")
        await until(tab, "example.transfers[1].state === 'failed'")
