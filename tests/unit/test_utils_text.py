"""Text from outside: one line, escaped, bounded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pywebtransport.utils._text import printable


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("plain text, ünïcode and 中文", "plain text, ünïcode and 中文"),
        ('end" of "quotes', 'end\\" of \\"quotes'),
        ("line\r\nforged\trecord", "line\\r\\nforged\\trecord"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("\u202eoverride", "\\u202eoverride"),
        ("lone \udce9", "lone \\udce9"),
        ("\U000e0001", "\\U000e0001"),
        (b"caf\xc3\xa9 \xff", "café \\\\xff"),
        (7, "7"),
        (None, "None"),
    ],
)
def test_what_a_terminal_would_obey_is_escaped(value: object, shown: str) -> None:
    assert printable(value) == shown


def test_long_text_is_cut_and_its_length_told() -> None:
    assert printable("x" * 1000, limit=5) == "xxxxx... (1000 characters)"
    assert printable(b"x" * 1000, limit=5) == "xxxxx... (1000 characters)"


def test_a_value_that_cannot_be_converted_is_named_by_its_type() -> None:
    class Broken:
        def __str__(self) -> str:
            raise RuntimeError("no text")

    assert printable(Broken()) == "<Broken>"


@given(st.text() | st.binary())
def test_the_result_is_always_one_printable_line(value: str | bytes) -> None:
    shown = printable(value)
    assert shown.isprintable()
    assert len(shown.splitlines()) <= 1
    shown.encode("utf-8")
