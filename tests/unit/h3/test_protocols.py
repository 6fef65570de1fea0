"""Structured fields and application protocol names."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pywebtransport.exceptions import ConfigurationError
from pywebtransport.h3.dialects import DIALECTS
from pywebtransport.h3.protocols import (
    check_protocols,
    format_offer,
    format_protocol,
    parse_offer,
    parse_protocol,
)
from pywebtransport.h3.structured import Member, parse_item, parse_list, serialize_string


def test_lists_of_every_kind() -> None:
    members = parse_list(
        '"a\\"b" , tok/en;q=1;x="y", 12, -1.5, :aGk=:, ?1, @7, %"%c3%bc", ("a" 1);p'
    )
    assert members is not None
    assert members[:2] == [Member("string", 'a"b'), Member("token", "tok/en")]
    assert [m.kind for m in members[2:]] == ["other"] * 7
    assert parse_list("  ") == []
    assert parse_list("()") == [Member("other", "")]


@pytest.mark.parametrize(
    "text",
    ['"a', '"a\\x"', "a b", "a,", ",a", "a,,b", "=1", "(a", '("a""b")', "a;", "a;=1", "a;P", '"é"'],
)
def test_malformed_lists(text: str) -> None:
    assert parse_list(text) is None


def test_items() -> None:
    assert parse_item(' "a";q=1 ') == Member("string", "a")
    assert parse_item('"a", "b"') is None
    assert parse_item("") is None


printable = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=30)


@given(st.lists(printable, max_size=5))
def test_strings_round_trip(texts: list[str]) -> None:
    members = parse_list(", ".join(serialize_string(text) for text in texts))
    assert members == [Member("string", text) for text in texts]


@given(st.text(max_size=60))
def test_random_text_raises_nothing(text: str) -> None:
    parse_list(text)
    parse_item(text)


def test_offers_as_each_generation_writes_them() -> None:
    names = ["chat-2", "x y"]
    assert format_offer(names, DIALECTS[2]) is None
    assert format_offer(names, DIALECTS[7]) == 'chat-2, "x y"'
    assert format_offer(names, DIALECTS[14]) == '"chat-2", "x y"'
    assert format_offer([], DIALECTS[16]) is None
    assert format_protocol("chat-2", DIALECTS[16]) == '"chat-2"'


@pytest.mark.parametrize(
    ("text", "draft", "names"),
    [
        ('"a", "b"', 16, ["a", "b"]),
        ('"a";q=0.5, "b"', 16, ["a", "b"]),
        ('"a", "b", "a"', 16, ["a", "b"]),
        ('"a", 1', 16, []),
        ("a, b", 16, []),
        ("a, b", 14, []),
        ("a, b", 7, ["a", "b"]),
        ('"a", "b"', 7, ["a", "b"]),
        ('"a", b', 7, []),
        ('"a', 16, []),
        ("", 16, []),
    ],
)
def test_offers_are_read_by_the_rules(text: str, draft: int, names: list[str]) -> None:
    assert parse_offer(text, DIALECTS[draft]) == names


@pytest.mark.parametrize(
    ("text", "draft", "name"),
    [
        ('"a"', 16, "a"),
        ('"a";x', 16, "a"),
        ("a", 16, None),
        ("a", 7, "a"),
        ('"a", "b"', 16, None),
        ("1", 7, None),
    ],
)
def test_choices_are_read_by_the_rules(text: str, draft: int, name: str | None) -> None:
    assert parse_protocol(text, DIALECTS[draft]) == name


@pytest.mark.parametrize("names", ["chat", [""], ["é"], ["a", "a"]])
def test_bad_names_of_the_application(names: list[str]) -> None:
    with pytest.raises(ConfigurationError, match="application_protocols"):
        check_protocols(names)
