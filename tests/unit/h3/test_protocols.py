"""Structured fields and application protocol names."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pywebtransport.exceptions import ConfigurationError
from pywebtransport.h3._dialects import DIALECTS
from pywebtransport.h3._protocols import (
    check_protocols,
    format_offer,
    format_protocol,
    parse_offer,
    parse_protocol,
)
from pywebtransport.h3._structured import Member, parse_item, parse_list, serialize_string


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


def test_offers_are_strings() -> None:
    assert format_offer(["chat-2", "x y"]) == '"chat-2", "x y"'
    assert format_offer([]) is None


def test_answers_have_the_form_of_the_offer() -> None:
    assert format_protocol("chat-2", as_token=False) == '"chat-2"'
    assert format_protocol("chat-2", as_token=True) == "chat-2"


@pytest.mark.parametrize("draft", [2, 7, 14, 16])
@pytest.mark.parametrize(
    ("text", "names"),
    [
        ('"a", "b"', ["a", "b"]),
        ('"a";q=0.5, "b"', ["a", "b"]),
        ('"a", "b", "a"', ["a", "b"]),
        ('"a", 1', []),
        ('"a", b', []),
        ('b, "a"', []),
        ("a, 1", []),
        ('"a', []),
        ("", []),
    ],
)
def test_offers_are_read_by_the_rules(text: str, draft: int, names: list[str]) -> None:
    assert parse_offer(text, DIALECTS[draft]) == (names, False)


@pytest.mark.parametrize("text", ["a, b", "a;q=1,b", "a, b, a"])
def test_offers_in_tokens_count_under_older_dialects(text: str) -> None:
    for draft in (2, 7):
        assert parse_offer(text, DIALECTS[draft]) == (["a", "b"], True)
    for draft in (14, 16):
        assert parse_offer(text, DIALECTS[draft]) == ([], False)


@pytest.mark.parametrize(
    ("text", "strict", "older"),
    [
        ('"a"', "a", "a"),
        ('"a";x', "a", "a"),
        ("a", None, "a"),
        ("a;x=1", None, "a"),
        ('"a", "b"', None, None),
        ("a, b", None, None),
        ("1", None, None),
        ("", None, None),
    ],
)
def test_choices_are_read_by_the_rules(text: str, strict: str | None, older: str | None) -> None:
    for draft in (14, 16):
        assert parse_protocol(text, DIALECTS[draft]) == strict
    for draft in (2, 7):
        assert parse_protocol(text, DIALECTS[draft]) == older


@pytest.mark.parametrize("names", ["chat", [""], ["é"], ["a", "a"]])
def test_bad_names_of_the_application(names: list[str]) -> None:
    with pytest.raises(ConfigurationError, match="application_protocols"):
        check_protocols(names)
