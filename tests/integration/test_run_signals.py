"""``ServerApp.run`` and signals at unexpected moments."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pywebtransport import ServerApp
from pywebtransport.exceptions import ConfigurationError
from tests.support.certificates import Certificates
from tests.support.endpoints import ServerFactory
from tests.support.processes import END_TIMEOUT, ROOT

# Says where it is; waits for ever in the place that is its argument.
_PROGRAM = """
import asyncio, json, os, sys, time
import uvloop
from pywebtransport import ServerApp, ServerConfig

fields, place, loop_name = json.loads(sys.argv[1]), sys.argv[2], sys.argv[3]
app = ServerApp(config=ServerConfig(bind_host="127.0.0.1", bind_port=0, **fields))

def say(name):
    os.write(1, (name + "\\n").encode())  # whole lines, though workers share the pipe

async def reach(name):
    say(name)
    if place == name:
        await asyncio.Event().wait()
    if place == name + ", blocked":
        time.sleep(1000)

async def serving():
    await asyncio.sleep(0)
    while app.server.local_address is None:
        await asyncio.sleep(0.01)
    await reach("serving")

@app.on_startup
async def started():
    await reach("start")
    app.task = asyncio.ensure_future(serving())

@app.on_shutdown
async def ended():
    await reach("shutdown")
    say("done")

app.run(loop_factory=(uvloop if loop_name == "uvloop" else asyncio).new_event_loop)
"""


class Program:
    """The program in a process of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def wait_for(self, line: str) -> None:
        """Read up to that line."""
        assert self._process.stdout is not None
        assert any(each == line + "\n" for each in self._process.stdout), "it ended before"

    def send_signal(self, number: int) -> None:
        self._process.send_signal(number)

    def end(self) -> tuple[str, int]:
        """What else it says, and its status."""
        output, _ = self._process.communicate(timeout=END_TIMEOUT)
        return output, self._process.returncode


@contextmanager
def program(
    certs: Certificates, place: str, loop_name: str = "asyncio", **fields: object
) -> Iterator[Program]:
    process = subprocess.Popen(
        [
            *(sys.executable, "-c", _PROGRAM),
            *(json.dumps({**certs.server.files, **fields}), place, loop_name),
        ],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with process:
        try:
            yield Program(process)
        finally:
            process.kill()


@pytest.mark.parametrize("loop_name", ["asyncio", "uvloop"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_during_the_start_cancels_it_and_shuts_down(
    certs: Certificates, number: int, loop_name: str
) -> None:
    with program(certs, "start", loop_name) as it:
        it.wait_for("start")
        it.send_signal(number)
        assert it.end() == ("shutdown\ndone\n", 0)


def test_signal_during_the_start_of_workers_cancels_that(certs: Certificates) -> None:
    with program(certs, "start", workers=2) as it:
        it.wait_for("start")
        it.wait_for("start")
        it.send_signal(signal.SIGTERM)
        output, status = it.end()
        assert (sorted(output.split()), status) == (["done", "done", "shutdown", "shutdown"], 0)


@pytest.mark.parametrize("place", ["start", "shutdown"])
def test_sighup_ends_nothing_while_there_is_nothing_to_reload(
    certs: Certificates, place: str
) -> None:
    with program(certs, place) as it:
        if place == "shutdown":
            it.wait_for("serving")
            it.send_signal(signal.SIGTERM)
        it.wait_for(place)
        it.send_signal(signal.SIGHUP)
        it.send_signal(signal.SIGTERM)
        expected = ("shutdown\ndone\n", 0) if place == "start" else ("", -signal.SIGTERM)
        assert it.end() == expected


@pytest.mark.parametrize("loop_name", ["asyncio", "uvloop"])
@pytest.mark.parametrize("place", ["serving, blocked", "start, blocked", "shutdown"])
def test_second_signal_ends_the_process_at_once(
    certs: Certificates, place: str, loop_name: str
) -> None:
    """Also while something blocks the event loop."""
    with program(certs, place, loop_name) as it:
        if place == "shutdown":
            it.wait_for("serving")
            it.send_signal(signal.SIGTERM)
        it.wait_for(place.partition(",")[0])
        if place != "shutdown":
            it.send_signal(signal.SIGINT)
        it.send_signal(signal.SIGTERM)
        assert it.end()[1] == -signal.SIGTERM


async def test_run_in_an_event_loop_says_what_to_do_instead(server_config: ServerFactory) -> None:
    app = ServerApp(config=server_config())
    with pytest.raises(ConfigurationError, match=r"in an event loop; .*serve"):
        app.run()
    with pytest.raises(ConfigurationError, match="outside of the main thread"):
        await asyncio.to_thread(app.run)
