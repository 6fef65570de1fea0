"""The targets of ``make fuzz`` hold for their corpora, and for inputs made of them by chance."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.fuzz import corpus
from tests.fuzz.targets import SEEDS, TARGETS

_MUTATIONS = 300


def mutated(inputs: list[bytes], choice: random.Random) -> bytes:
    """One of the inputs with some bytes changed, added, or taken away."""
    data = bytearray(choice.choice(inputs))
    for _ in range(choice.randint(1, 6)):
        where = choice.randint(0, len(data))
        what = choice.randint(0, 3)
        if what == 0:
            data[where : where + 1] = bytes([choice.randint(0, 255)])
        elif what == 1:
            data[where:where] = bytes([choice.randint(0, 255)]) * choice.randint(1, 3)
        elif what == 2:
            data += choice.choice(inputs)
        else:
            del data[where : where + choice.randint(1, 4)]
    return bytes(data)


@pytest.mark.parametrize("name", TARGETS)
def test_target_holds(name: str) -> None:
    inputs = [*SEEDS[name], *corpus.load(name)]
    for data in inputs:
        TARGETS[name](data)
    choice = random.Random(name)
    for _ in range(_MUTATIONS):
        data = mutated(inputs, choice)
        try:
            TARGETS[name](data)
        except Exception as error:
            error.add_note(f"input: {data!r}")
            raise


@pytest.mark.parametrize("name", TARGETS)
def test_target_has_a_corpus(name: str) -> None:
    assert corpus.load(name)


def test_corpora_belong_to_targets() -> None:
    in_c = {path.stem for path in corpus.FOLDER.parent.glob("fuzz_*.c")}
    assert {path.stem for path in corpus.FOLDER.glob("*.txt")} <= in_c | set(TARGETS)


def test_corpora_are_packed_and_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "FOLDER", tmp_path / "corpus")
    assert corpus.load("x") == []
    assert corpus.store("x", [b"long" * 1000, b"b", b"\xff\0", b"b", b""]) == 2
    assert corpus.load("x") == [b"b", b"\xff\0"]
    corpus.unpack("x", tmp_path / "files", [b"more"])
    assert corpus.pack("x", tmp_path / "files") == 3
    assert corpus.load("x") == [b"b", b"\xff\0", b"more"]
