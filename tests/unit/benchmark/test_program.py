"""One end of a measurement: a library whose server owns its process gets it."""

import pytest

from tests.benchmark.peers.shared import run
from tests.benchmark.peers.shared.interface import Options


def options(role: str) -> Options:
    return Options(
        library="some",
        role=role,
        loop="asyncio",
        port=1,
        control="",
        certfile="",
        keyfile="",
        certificate_hash="",
        congestion="",
        job={},
    )


class OwnProcess:
    """A library that only remembers what it was told to run."""

    def __init__(self) -> None:
        self.served: list[Options] = []

    def run_server(self, wanted: Options) -> None:
        self.served.append(wanted)


def test_a_server_that_owns_its_process_runs_without_a_loop_of_ours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def loop_factory(_: str) -> None:
        raise AssertionError("no loop is needed")

    monkeypatch.setattr(run, "_loop_factory", loop_factory)
    library = OwnProcess()
    run.main(library, options("server"))  # type: ignore[arg-type]
    assert library.served == [options("server")]


def test_its_client_would_run_on_a_loop_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    def loop_factory(name: str) -> None:
        raise LookupError(name)

    monkeypatch.setattr(run, "_loop_factory", loop_factory)
    library = OwnProcess()
    with pytest.raises(LookupError, match="asyncio"):
        run.main(library, options("client"))  # type: ignore[arg-type]
    assert library.served == []
