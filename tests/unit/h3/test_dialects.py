"""Choice of the dialect and of flow control from two sets of SETTINGS."""

import pytest

from pywebtransport import ClientConfig, ServerConfig
from pywebtransport.constants import HTTP3_SETTINGS
from pywebtransport.exceptions import ConfigurationError
from pywebtransport.h3._constants import RESERVED_SETTINGS, Setting
from pywebtransport.h3._dialects import (
    ALL_DIALECTS,
    DIALECTS,
    add_enabling,
    dialect_of_request,
    flow_control_on,
    never_asks_for_credit,
    select_dialect,
)
from pywebtransport.h3._options import H3Options
from pywebtransport.h3._settings import build_settings

H3, OLDER = "webtransport-h3", "webtransport"
ALL = add_enabling(ALL_DIALECTS, {})
OURS = build_settings(H3Options(), is_client=False)

SHOWN = [
    ({0x2B603742: 1}, 2),
    ({0xC671706A: 1}, 7),
    ({0x2B603742: 1, 0xC671706A: 1}, 7),
    ({0xC671706A: 1, 0x14E9CD29: 1}, 14),
    ({0x14E9CD29: 1, 0x2C7CF000: 1, 0x2B603742: 1}, 16),
]


@pytest.mark.parametrize(("settings", "draft"), SHOWN)
def test_the_highest_in_common_wins(settings: dict[int, int], draft: int) -> None:
    assert select_dialect(ALL, settings) is DIALECTS[draft]
    assert dialect_of_request(ALL, settings, None) is DIALECTS[draft]


def test_only_what_we_offer_counts() -> None:
    peer = {0x2C7CF000: 1, 0x2B603742: 1}
    assert select_dialect(add_enabling({2, 7}, {}), peer) is DIALECTS[2]
    assert select_dialect(add_enabling({7, 14}, {}), peer) is None
    assert dialect_of_request(add_enabling({7, 14}, {}), peer, None) is None
    assert dialect_of_request(add_enabling({7, 14}, {}), peer, H3) is None


@pytest.mark.parametrize("value", [0, 2])
def test_a_switch_is_on_with_the_value_one(value: int) -> None:
    assert select_dialect(ALL, {0x2B603742: value, 0x2C7CF000: value}) is None


def test_a_zero_shows_nothing() -> None:
    zeros = {0x2B603742: 0, 0xC671706A: 0, 0x14E9CD29: 0, 0x2C7CF000: 0}
    assert select_dialect(ALL, zeros) is None


@pytest.mark.parametrize("settings", [{0x33: 1}, {0x33: 1, 0x2C7CF00F: 1}, {0x2C7CF000: 0}])
def test_the_token_decides_for_a_client_that_shows_nothing_known(
    settings: dict[int, int],
) -> None:
    assert dialect_of_request(ALL, settings, None) is DIALECTS[7]
    assert dialect_of_request(ALL, settings, H3) is DIALECTS[16]
    assert dialect_of_request(ALL, settings, OLDER) is DIALECTS[7]
    initial = {**settings, 0x2B65: 5}
    assert dialect_of_request(ALL, initial, None) is DIALECTS[16]
    assert dialect_of_request(ALL, initial, H3) is DIALECTS[16]
    assert dialect_of_request(ALL, initial, OLDER) is DIALECTS[7]
    assert dialect_of_request(add_enabling({2, 14}, {}), settings, OLDER) is None
    assert dialect_of_request(add_enabling({2, 7}, {}), settings, H3) is DIALECTS[7]
    assert dialect_of_request(add_enabling({2, 16}, {}), settings, OLDER) is DIALECTS[16]


@pytest.mark.parametrize(("settings", "draft"), SHOWN)
def test_settings_and_token_of_a_client_that_shows_a_dialect(
    settings: dict[int, int], draft: int
) -> None:
    assert dialect_of_request(ALL, settings, H3) is DIALECTS[draft]
    older = dialect_of_request(ALL, settings, OLDER)
    assert older is (DIALECTS[14] if draft == 16 else DIALECTS[draft])


def test_older_settings_with_session_limits_and_the_newer_token() -> None:
    """As of a browser that speaks the RFC, where only the server announces it."""
    for shown in ({0x2B603742: 1}, {0xC671706A: 1}, {0x2B603742: 1, 0xC671706A: 1}):
        settings = {**shown, 0x2B61: 1 << 20}
        assert dialect_of_request(ALL, settings, H3) is DIALECTS[16]
        older = dialect_of_request(ALL, settings, OLDER)
        assert older is DIALECTS[7 if 0xC671706A in shown else 2]
        assert dialect_of_request(add_enabling({2, 7}, {}), settings, H3) is older


def test_the_next_older_one_for_a_retry() -> None:
    peer = {0x2C7CF000: 1, 0xC671706A: 1}
    assert select_dialect(ALL, peer, below=16) is DIALECTS[7]
    assert select_dialect(ALL, peer, below=7) is None


def test_added_settings_announce_a_dialect() -> None:
    options = H3Options(extra_enabling_settings={0x2C7CF001: 16, 0xC0FFEE: 14})
    for is_client in (False, True):
        sent = build_settings(options, is_client=is_client)
        assert sent[0x2C7CF000] == sent[0x2C7CF001] == 1
        assert sent[0x14E9CD29] == sent[0xC0FFEE] == options.max_sessions
    for settings, draft in (
        ({0x2C7CF001: 1}, 16),
        ({0x2C7CF001: 3}, 16),  # its meaning is not known here
        ({0xC0FFEE: 4, 0xC671706A: 1}, 14),
        ({0xC0FFEE: 0, 0x2C7CF001: 0, 0xC671706A: 1}, 7),
    ):
        dialect = select_dialect(options.offered, settings)
        assert dialect is not None
        assert dialect.draft == draft
        assert select_dialect(ALL, settings) is (DIALECTS[7] if 0xC671706A in settings else None)
    chosen = dialect_of_request(options.offered, {0x33: 1, 0x2C7CF001: 1}, OLDER)
    assert chosen is not None
    assert chosen.draft == 16  # shown, so the client is not silent: the token alone is older
    fourteen = next(d for d in options.offered if d.draft == 14)
    assert flow_control_on(fourteen, OURS, {0xC0FFEE: 2})
    assert not flow_control_on(fourteen, OURS, {0xC0FFEE: 1})


@pytest.mark.parametrize(
    "extra",
    [
        {0x2C7CF000: 16},  # known already
        {0x33: 16},
        {0x02: 16},  # of HTTP/2
        {0x21: 16},  # of GREASE
        {-1: 16},
        {1 << 62: 16},
        {0xC0FFEE: 15},
    ],
    ids=str,
)
def test_settings_that_cannot_be_added(extra: dict[int, int]) -> None:
    with pytest.raises(ConfigurationError, match="extra_enabling_settings"):
        H3Options(extra_enabling_settings=extra)
    with pytest.raises(ConfigurationError, match="extra_enabling_settings"):
        ServerConfig(extra_enabling_settings=extra)


def test_an_added_setting_of_a_dialect_that_is_not_offered() -> None:
    for make in (H3Options, ClientConfig, ServerConfig):
        with pytest.raises(ConfigurationError, match="extra_enabling_settings"):
            make(dialects=[7], extra_enabling_settings={0xC0FFEE: 16})


def test_settings_that_are_in_use() -> None:
    assert set(Setting) | RESERVED_SETTINGS == HTTP3_SETTINGS


@pytest.mark.parametrize(
    ("settings", "draft", "all_at_once"),
    [
        ({0xC671706A: 1, 0x14E9CD29: 1}, 14, True),
        ({0x14E9CD29: 1}, 14, False),
        ({0xC671706A: 0, 0x14E9CD29: 1}, 14, False),
        ({0xC671706A: 1}, 7, False),
        ({0xC671706A: 1, 0x14E9CD29: 1, 0x2C7CF000: 1}, 16, False),
    ],
)
def test_who_needs_all_credit_at_once(
    settings: dict[int, int], draft: int, all_at_once: bool
) -> None:
    chosen = select_dialect(ALL, settings)
    assert chosen is DIALECTS[draft]
    assert never_asks_for_credit(chosen, settings) is all_at_once


FLOW_CONTROL = [
    (2, {0x2B61: 5}, False),
    (7, {0xC671706A: 5, 0x2B61: 5}, False),
    (14, {0x14E9CD29: 1}, False),
    (14, {0x14E9CD29: 2}, True),
    (14, {0x14E9CD29: 1, 0x2B64: 1}, True),
    (16, {0x2C7CF000: 1}, False),
    (16, {0x2C7CF000: 1, 0x14E9CD29: 9}, False),
    (16, {0x2C7CF000: 1, 0x2B61: 0, 0x2B64: 0, 0x2B65: 0}, False),
    (16, {0x2C7CF000: 1, 0x2B65: 1}, True),
]


@pytest.mark.parametrize(("draft", "peer", "on"), FLOW_CONTROL)
def test_flow_control_needs_both_ends(draft: int, peer: dict[int, int], on: bool) -> None:
    assert flow_control_on(DIALECTS[draft], OURS, peer) is on
    assert flow_control_on(DIALECTS[draft], peer, OURS) is on


def test_codes_and_status_of_each_generation() -> None:
    assert [d.unknown_path_status for d in DIALECTS.values()] == [404, 404, 404, 405]
    assert [d.token for d in DIALECTS.values()][-1] == "webtransport-h3"
    assert {d.token for d in list(DIALECTS.values())[:-1]} == {"webtransport"}
