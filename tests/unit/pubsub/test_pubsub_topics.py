"""Topics and patterns."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pywebtransport.pubsub import InvalidTopicError
from pywebtransport.pubsub._topics import (
    MAX_DEPTH,
    MAX_TOPIC_LENGTH,
    check_pattern,
    check_topic,
    matcher,
)

LEVELS = st.text("abzÄ0_-:@/+=~", min_size=1, max_size=4)
TOPICS = st.lists(LEVELS, min_size=1, max_size=5).map(".".join)
PATTERN_LEVELS = st.one_of(LEVELS, st.just("*"))


@pytest.mark.parametrize(
    "topic",
    [
        "a",
        "rooms.python.chat",
        "räume.größe",
        "user:5.a@b/c+d=e~f",
        "a" * MAX_TOPIC_LENGTH,
        ".".join("a" * MAX_DEPTH),
    ],
)
def test_topics(topic: str) -> None:
    assert check_topic(topic) is topic
    assert check_pattern(topic) is topic


@pytest.mark.parametrize(
    "topic",
    [
        *("", ".", "a.", ".a", "a..b", "a b", "a\n", "a.\x00", "a?", "[a]", "a\\b", "a#", "\ud800"),
        "a" * (MAX_TOPIC_LENGTH + 1),
        "ä" * (MAX_TOPIC_LENGTH // 2 + 1),
        ".".join("a" * (MAX_DEPTH + 1)),
        "." * 100_000,
    ],
)
def test_malformed_topics_and_patterns(topic: str) -> None:
    for check in (check_topic, check_pattern):
        with pytest.raises(InvalidTopicError) as caught:
            check(topic)
        assert len(caught.value.message) < 300
        assert caught.value.topic == topic[:MAX_TOPIC_LENGTH]


@pytest.mark.parametrize("value", [None, 5, b"a", ["a"]])
def test_topics_are_strings(value: object) -> None:
    with pytest.raises(InvalidTopicError, match="must be a string"):
        check_topic(value)


@pytest.mark.parametrize("pattern", ["*", "**", "a.*", "*.b", "a.*.c", "a.**", "*.**"])
def test_patterns_are_no_topics(pattern: str) -> None:
    assert check_pattern(pattern) is pattern
    with pytest.raises(InvalidTopicError, match="wildcards are for subscriptions"):
        check_topic(pattern)


@pytest.mark.parametrize("pattern", ["**.a", "a.**.b", "a*", "*a.b", "***", "a.**b", "**.**"])
def test_malformed_patterns(pattern: str) -> None:
    with pytest.raises(InvalidTopicError):
        check_pattern(pattern)


@pytest.mark.parametrize(
    ("pattern", "fits", "others"),
    [
        ("a.b", ["a.b"], ["a", "a.b.c", "a.B", "aXb"]),
        ("*", ["a", "xyz"], ["a.b"]),
        ("a.*", ["a.b", "a.xyz"], ["a", "a.b.c", "b.a", "ab"]),
        ("*.b", ["a.b"], ["b", "a.b.b", "a.c"]),
        ("a.*.c", ["a.b.c"], ["a.c", "a.b.b.c", "a.b.d"]),
        ("**", ["a", "a.b", "a.b.c"], []),
        ("a.**", ["a.b", "a.b.c"], ["a", "ab", "b.a.c"]),
        ("*.x.**", ["a.x.b", "b.x.c.d"], ["a.x", "x.b", "a.b.x.c"]),
        ("a+b.*", ["a+b.c"], ["aab.c"]),
    ],
)
def test_matching(pattern: str, fits: list[str], others: list[str]) -> None:
    matches = matcher(pattern)
    assert [topic for topic in fits if not matches(topic)] == []
    assert [topic for topic in others if matches(topic)] == []


@given(TOPICS)
def test_a_topic_matches_itself_and_everything_does_too(topic: str) -> None:
    check_topic(topic)
    assert matcher(topic)(topic)
    assert matcher("**")(topic)
    assert matcher(".".join("*" for _ in topic.split(".")))(topic)


@given(st.lists(PATTERN_LEVELS, min_size=1, max_size=5), st.booleans(), TOPICS)
def test_matching_is_level_by_level(levels: list[str], rest: bool, topic: str) -> None:
    pattern = ".".join([*levels, "**"] if rest else levels)
    check_pattern(pattern)
    parts = topic.split(".")
    long_enough = len(parts) > len(levels) if rest else len(parts) == len(levels)
    expected = long_enough and all(
        level in ("*", part) for level, part in zip(levels, parts, strict=False)
    )
    assert matcher(pattern)(topic) is expected


@given(st.lists(PATTERN_LEVELS, min_size=1, max_size=5), st.booleans(), TOPICS)
def test_what_a_backend_is_asked_for_covers_the_pattern(
    levels: list[str], rest: bool, topic: str
) -> None:
    """A backend's star spans anything; a broker leaves out what is too much."""
    pattern = ".".join([*levels, "**"] if rest else levels)
    channels = re.escape(pattern.replace("**", "*")).replace(r"\*", ".*")
    if matcher(pattern)(topic):
        assert re.fullmatch(channels, topic)
