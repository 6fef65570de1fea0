"""The servers of the examples with pages, against clients that mean harm."""

from __future__ import annotations

import asyncio
import importlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from pywebtransport import WebTransportClient
from pywebtransport.rpc import RpcError, RpcManager
from tests.support.endpoints import ClientFactory, Serving

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "browser"
KEY = "0123456789abcdef"


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    """Imports an example by its name."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    before = set(sys.modules)
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if (EXAMPLES / f"{name}.py").exists():
            del sys.modules[name]


@pytest.fixture
def transfer(example: Callable[[str], ModuleType]) -> ModuleType:
    return example("transfer")


async def put(rpc: RpcManager, name: str, key: str, data: bytes) -> str:
    """Send a small file; return its hash."""
    number, offset = await rpc.call("begin", name, len(data), key)
    stream = await rpc.session.create_unidirectional_stream()
    await stream.write_all(number.to_bytes(4) + data[offset:])
    digest: str = await rpc.call("finish", number)
    return digest


async def test_names_that_harm_are_refused(
    transfer: ModuleType, serving: Serving, client_config: ClientFactory, tmp_path: Path
) -> None:
    names = (
        "",
        "..",
        ".hidden",
        "/",
        "a\x1b[2Jb",
        "a\nb",
        "a\0b",
        "\u202eb",
        "x" * 300,
        "\xe4" * 200,
    )
    async with (
        serving(transfer.Store(tmp_path).handle) as served,
        WebTransportClient(config=client_config()) as client,
        client.connect(served.url()) as session,
        RpcManager(session) as rpc,
    ):
        for name in names:
            with pytest.raises(RpcError, match="needs a name") as caught:
                await rpc.call("begin", name, 1, KEY)
            assert caught.value.error_code == 400
        for key in ("", "../../etc/passwd", KEY.upper(), "0" * 65):
            with pytest.raises(RpcError, match="needs a name"):
                await rpc.call("begin", "a", 1, key)
        assert os.listdir(tmp_path) == []
        await put(rpc, "../../up", KEY, b"stays here")
    assert os.listdir(tmp_path) == ["up"]


async def test_room_is_limited(
    transfer: ModuleType,
    serving: Serving,
    client_config: ClientFactory,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(transfer, "MOST_FILES", 3)
    async with (
        serving(transfer.Store(tmp_path).handle) as served,
        WebTransportClient(config=client_config()) as client,
        client.connect(served.url()) as session,
        RpcManager(session) as rpc,
    ):
        with pytest.raises(RpcError, match="no room"):
            await rpc.call("begin", "large", 2**60, KEY)
        for number in range(3):
            await rpc.call("begin", "a", 1, f"{KEY}{number}")
        with pytest.raises(RpcError, match="no room"):
            await rpc.call("begin", "a", 1, f"{KEY}3")
    assert len(os.listdir(tmp_path)) == 3


async def test_two_files_of_one_name_do_not_replace_each_other(
    transfer: ModuleType, serving: Serving, client_config: ClientFactory, tmp_path: Path
) -> None:
    async with (
        serving(transfer.Store(tmp_path).handle) as served,
        WebTransportClient(config=client_config()) as client,
        client.connect(served.url()) as session,
        RpcManager(session) as rpc,
    ):
        outcomes = await asyncio.gather(
            put(rpc, "one", f"{KEY}1", b"first"),
            put(rpc, "one", f"{KEY}2", b"second"),
            return_exceptions=True,
        )
    (error,) = [each for each in outcomes if isinstance(each, BaseException)]
    assert isinstance(error, RpcError)
    assert error.error_code == 409
    kept = b"second" if outcomes[0] is error else b"first"
    assert (tmp_path / "one").read_bytes() == kept


async def test_strokes_without_points_are_refused(
    example: Callable[[str], ModuleType], serving: Serving, client_config: ClientFactory
) -> None:
    """They count towards no limit of the board."""
    board = example("whiteboard").Board()
    stroke = {"key": "k", "color": "red", "width": 1.0, "number": 0}
    async with (
        board.broker,
        serving(board.handle) as served,
        WebTransportClient(config=client_config()) as client,
        client.connect(served.url()) as session,
        RpcManager(session) as rpc,
    ):
        with pytest.raises(RpcError, match="needs a point"):
            await rpc.call("draw", {**stroke, "points": []})
        assert await rpc.call("everything") == []
        await rpc.call("draw", {**stroke, "points": [0.1, 0.2]})
        assert len(await rpc.call("everything")) == 1
