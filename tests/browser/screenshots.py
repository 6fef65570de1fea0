"""``make screenshots``: pictures of the example pages for the documentation.

Each picture is the real page in headless Chromium, beside the real server: on a desktop (1280
pixels wide) and a phone (390), in light and dark.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import math
import sys
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

from pywebtransport import connect
from pywebtransport.pubsub import PubSubManager

from .chromium import Chromium, Tab
from .examples import ROOT, Example, drag, started, until

OUTPUT = ROOT / "docs" / "_static" / "examples"
# Width, height, pixels of the picture for each of the page, and whether it is a phone.
SCREENS = {"desktop": (1280, 800, 1.0, False), "phone": (390, 844, 1.5, True)}
SCHEMES = ("light", "dark")
MAX_SIZE = 60_000
QUALITIES = (80, 60, 40, 20)

Scene = Callable[[Chromium, Example, Tab], Awaitable[object]]


async def pause(milliseconds: int, tab: Tab) -> None:
    """Let a page go on for a while."""
    await tab.run(f"() => new Promise((done) => setTimeout(done, {milliseconds}))")


async def other(browser: Chromium, example: Example) -> Tab:
    """Another visitor."""
    tab = browser.open_page(example.url)
    await until(tab, "example.connection.state === 'open'")
    return tab


async def whiteboard(browser: Chromium, example: Example, tab: Tab) -> None:
    """A house under the sun, drawn by two; somebody points at it."""
    friend = await other(browser, example)
    screen = metrics(await tab.run("() => [innerWidth, innerHeight]"))
    await friend.call("Emulation.setDeviceMetricsOverride", **screen)
    for page, color, width in ((tab, 0, 4), (friend, 4, 8)):
        await page.run(f"() => document.querySelectorAll('#colors button')[{color}].click()")
        await page.run(f"() => {{ document.getElementById('width').value = {width}; }}")
    left, top, scale = await tab.run(
        """() => {
          const board = document.getElementById("board").getBoundingClientRect();
          return [board.left, board.top, Math.min(board.width / 10, board.height / 7)];
        }"""
    )

    def at(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
        return [(left + scale * x, top + scale * y) for x, y in points]

    await drag(tab, at([(1.5, 5.8), (1.5, 3.2), (3, 1.6), (4.5, 3.2), (4.5, 5.8), (1.5, 5.8)]))
    await drag(tab, at([(2.6, 5.8), (2.6, 4.4), (3.4, 4.4), (3.4, 5.8)]))
    wave = [(0.4 + step / 8, 6.1 + 0.12 * math.sin(step / 2)) for step in range(73)]
    await tab.run("() => document.querySelectorAll('#colors button')[2].click()")
    await drag(tab, at(wave))
    turns = [turn / 8 for turn in range(52)]
    circle = [(7.4 + math.cos(turn), 1.8 + math.sin(turn)) for turn in turns]
    await drag(friend, at(circle))
    for turn in range(8):
        angle = turn * math.pi / 4
        ray = [(7.4 + r * math.cos(angle), 1.8 + r * math.sin(angle)) for r in (1.2, 1.5)]
        await drag(friend, at(ray))
    await until(tab, "example.strokes().length === 12")
    x, y = at([(5.6, 3.4)])[0]
    await friend.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
    await until(tab, "document.querySelectorAll('.pointer').length > 0")


async def chat(browser: Chromium, example: Example, tab: Tab) -> None:
    """Three people talk."""
    await tab.run("() => { document.getElementById('name').value = 'bob'; }")
    await until(tab, "example.lines().length > 0")
    *_, url, digest = example.line().split()
    lines = (
        ("ann", "Has anybody tried the new build?"),
        ("bob", "Yes, on two phones and a laptop."),
        ("bob", "The page reconnects by itself when I restart the server."),
        ("chris", "In a terminal here: python examples/chat.py client …"),
        ("ann", "And the history?"),
        ("chris", "None yet. A slow reader loses lines and is told how many."),
        ("bob", "Good enough for today."),
    )
    async with (
        connect(url, server_certificate_hashes=[digest]) as session,
        PubSubManager(session) as pubsub,
    ):
        for author, text in lines:
            await pubsub.publish("rooms.lobby", {"author": author, "text": text})
        await until(tab, f"example.lines().length > {len(lines)}")


async def game(browser: Chromium, example: Example, tab: Tab) -> None:
    """Four players chase coins for a while."""
    players = [tab, *[await other(browser, example) for _ in range(3)]]
    for number, player in enumerate(players):
        await until(player, "example.me()")
        # Each has a coin of its own, and goes to the next one when it is taken.
        await player.run(
            """(number) => {
              const canvas = document.querySelector("canvas");
              setInterval(() => {
                const [x, y] = example.picture().coins[number].map(example.pixels);
                const { left, top } = canvas.getBoundingClientRect();
                const place = { clientX: left + x, clientY: top + y, buttons: 1 };
                canvas.dispatchEvent(new PointerEvent("pointermove", place));
              }, 50);
            }""",
            number,
        )
    await until(tab, "example.picture().players.every(([, , , coins]) => coins > 1)")
    await until(tab, "document.querySelectorAll('#scores li').length === 4")
    await pause(1000, tab)


async def dashboard(browser: Chromium, example: Example, tab: Tab) -> None:
    """Charts with some past, in which others come and go."""
    address = await tab.run("() => fetch('config.json').then((answer) => answer.json())")
    async with AsyncExitStack() as everybody:

        async def come(stay: AsyncExitStack) -> None:
            session = await stay.enter_async_context(
                connect(address["url"], server_certificate_hashes=[address["certificateHash"]])
            )
            pubsub = await stay.enter_async_context(PubSubManager(session))
            await pubsub.subscribe("samples", max_queue=1)

        visitors = []
        for change in (3, 4, 6, 4, -5, -4, 5, -6, 8, -3):
            for _ in range(change):
                visitors.append(await everybody.enter_async_context(AsyncExitStack()))
                await come(visitors[-1])
            for _ in range(-change):
                await visitors.pop(0).aclose()
            count = f"{len(visitors)} + 1"
            await until(tab, f"example.samples().slice(-10).every((one) => one.pages === {count})")
        await until(tab, "example.samples().length === 120")


async def video(browser: Chromium, example: Example, tab: Tab) -> None:
    """After some seconds."""
    await until(tab, "example.counts.shown > 40")
    await until(tab, "document.getElementById('received').textContent !== '0 B'")


async def transfer(browser: Chromium, example: Example, tab: Tab) -> None:
    """One file is there, one was refused, one is under way."""
    await tab.run(
        """async () => {
          const file = (name, size) => new File([new Uint8Array(size)], name);
          example.add([file("holiday.mp4", 48e6)]);
          await example.transfers[0].done;
          example.add([file("holiday.mp4", 1e6), file("measurements.csv", 3e6)]);
          await example.transfers[1].done;
          await example.transfers[2].done;
        }"""
    )


# Those whose pages are for phones above all have pictures of both screens.
ON_PHONES = ("whiteboard", "chat", "dashboard")
SCENES: dict[str, tuple[str, tuple[str, ...], Scene]] = {
    "whiteboard": ("whiteboard.py", (), whiteboard),
    "chat": ("chat_page.py", (), chat),
    "game": ("game.py", (), game),
    "dashboard": ("dashboard.py", ("--interval", "0.1"), dashboard),
    "video": ("video.py", (), video),
    "transfer": ("transfer.py", ("serve",), transfer),
}


def metrics(size: tuple[int, int], scale: float = 1.0, mobile: bool = False) -> dict[str, object]:
    """Arguments of a DevTools command that makes a screen."""
    width, height = size
    return {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": mobile}


async def picture(tab: Tab) -> bytes:
    """The page as WebP, small enough for the documentation."""
    for quality in QUALITIES:
        shot = await tab.call("Page.captureScreenshot", format="webp", quality=quality)
        data = base64.b64decode(shot["data"])
        if len(data) <= MAX_SIZE:
            return data
    raise ValueError(f"a picture of {len(data)} bytes is larger than {MAX_SIZE}")


async def shoot(name: str, output: Path) -> None:
    """All pictures of one example."""
    program, arguments, scene = SCENES[name]
    for screen, (width, height, scale, mobile) in SCREENS.items():
        if screen == "phone" and name not in ON_PHONES:
            continue
        with (
            tempfile.TemporaryDirectory() as directory,
            Chromium() as browser,
            started(program, *arguments, *([directory] if name == "transfer" else [])) as example,
        ):
            tab = browser.open_page("about:blank")
            await tab.call(
                "Emulation.setDeviceMetricsOverride", **metrics((width, height), scale, mobile)
            )
            await tab.call("Page.navigate", url=example.url)
            await until(tab, "globalThis.example?.connection.state === 'open'")
            await scene(browser, example, tab)
            for scheme in SCHEMES:
                feature = {"name": "prefers-color-scheme", "value": scheme}
                await tab.call("Emulation.setEmulatedMedia", features=[feature])
                await pause(300, tab)
                file = output / f"{name}-{screen}-{scheme}.webp"
                file.write_bytes(await picture(tab))
                print(f"{file.stat().st_size:6} {file}", flush=True)


def main() -> int:
    """Parse the command line and make the pictures."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.browser.screenshots",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(SCENES))
    parser.add_argument("--output", type=Path, default=OUTPUT)
    arguments = parser.parse_args()
    unknown = set(arguments.names) - set(SCENES)
    if unknown:
        parser.error(f"there is no example {min(unknown)!r}; there are {', '.join(SCENES)}")
    arguments.output.mkdir(parents=True, exist_ok=True)
    for name in arguments.names or SCENES:
        asyncio.run(shoot(name, arguments.output))
    return 0


if __name__ == "__main__":
    sys.exit(main())
