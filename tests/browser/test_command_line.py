"""The line of JavaScript that ``pywebtransport serve`` and ``cert make`` print."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from pywebtransport._cli.certificates import javascript_line

from .conftest import Visit


async def test_the_line_opens_a_session(
    visit: Callable[..., AbstractAsyncContextManager[Visit]],
) -> None:
    async with visit() as it:
        line = javascript_line(it.url, it.hash)
        script = f"async () => {{ const session = {line}; await session.ready; return 'open'; }}"
        assert await it.run(script) == "open"
        session = await it.sessions.get()
        assert session.path == "/wt"
