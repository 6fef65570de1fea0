"""Subprotocols of a WebSocket: what is offered, understood and chosen."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pywebtransport._qmux._names import (
    LEGACY,
    Subprotocol,
    check_protocols,
    choose,
    format_offer,
    offers_qmux,
    parse_offer,
    protocols_of,
)
from pywebtransport.exceptions import ConfigurationError

TOKEN = st.text("abcXYZ019!#$%&'*+.^_`|~-", min_size=1, max_size=12)


def test_an_offer_has_each_protocol_with_both_drafts_and_then_none() -> None:
    assert format_offer(["chat", "b"]) == (
        *("qmux-02.chat", "qmux-01.chat", "qmux-02.b", "qmux-01.b"),
        *("qmux-02", "qmux-01"),
    )
    assert format_offer([]) == ("qmux-02", "qmux-01")


@given(st.lists(TOKEN, unique=True, max_size=6))
def test_an_offer_is_understood_as_it_was_meant(protocols: list[str]) -> None:
    check_protocols(protocols)
    offer = format_offer(protocols)
    assert len(set(offer)) == len(offer)
    understood = parse_offer(offer)
    assert [one.name for one in understood] == list(offer)
    assert protocols_of(understood) == tuple(protocols)
    for protocol in [*protocols, None]:
        chosen = choose(understood, protocol)
        assert chosen is not None
        assert (chosen.draft, chosen.protocol) == (2, protocol)


def test_names_that_nobody_here_speaks_are_ignored() -> None:
    offered = ("qmux-03", "qmux-02.", "qmux-02.a b", "qmux-2", "graphql-ws", "QMUX-02", "qmux-00")
    assert parse_offer(offered) == ()
    assert not offers_qmux(offered)
    assert parse_offer((*offered, "qmux-01", "qmux-01")) == (Subprotocol("qmux-01", 1, None),)


def test_the_older_framing_counts_only_where_it_is_wanted() -> None:
    offered = ("webtransport", "webtransport.echo")
    assert parse_offer(offered) == ()
    understood = parse_offer(offered, legacy=True)
    assert understood == (
        Subprotocol("webtransport", LEGACY, None),
        Subprotocol("webtransport.echo", LEGACY, "echo"),
    )
    both = parse_offer(("webtransport", "qmux-01", "qmux-02"), legacy=True)
    assert choose(both, None) == Subprotocol("qmux-02", 2, None)


def test_an_application_protocol_may_have_dots() -> None:
    (found,) = parse_offer(["qmux-02.moq-lite.v5"])
    assert found == Subprotocol("qmux-02.moq-lite.v5", 2, "moq-lite.v5")


def test_nothing_is_chosen_that_was_not_offered() -> None:
    understood = parse_offer(["qmux-01.chat", "qmux-01"])
    assert choose(understood, "other") is None
    assert choose(understood, "chat") == Subprotocol("qmux-01.chat", 1, "chat")
    assert choose(parse_offer(["qmux-02.chat"]), None) is None


@pytest.mark.parametrize(
    ("protocols", "rule"),
    [
        ("chat", "sequence"),
        (["a b"], "letters"),
        ([""], "letters"),
        (["é"], "letters"),
        ([7], "letters"),
        (["chat", "chat"], "twice"),
        (["x" * 5000], "8192 bytes"),
    ],
)
def test_protocols_that_cannot_be_offered_are_refused(protocols: list[str], rule: str) -> None:
    with pytest.raises(ConfigurationError, match=rule) as caught:
        check_protocols(protocols)
    assert caught.value.config_key == "application_protocols"
