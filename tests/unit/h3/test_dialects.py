"""Choice of the dialect and of flow control from two sets of SETTINGS."""

import pytest

from pywebtransport.h3.dialects import ALL_DIALECTS, DIALECTS, flow_control_on, select_dialect
from pywebtransport.h3.options import H3Options
from pywebtransport.h3.settings import build_settings

OURS = build_settings(H3Options(), is_client=False)

SHOWN = [
    ({0x2B603742: 1}, 2),
    ({0xC671706A: 1}, 7),
    ({0x2B603742: 1, 0xC671706A: 1}, 7),
    ({0xC671706A: 1, 0x14E9CD29: 1}, 14),
    ({0x14E9CD29: 1, 0x2C7CF000: 1, 0x2B603742: 1}, 16),
]


@pytest.mark.parametrize(("settings", "draft"), SHOWN)
@pytest.mark.parametrize("is_client", [False, True])
def test_the_highest_in_common_wins(settings: dict[int, int], draft: int, is_client: bool) -> None:
    dialect = select_dialect(ALL_DIALECTS, settings, is_client=is_client)
    assert dialect is DIALECTS[draft]


def test_only_what_we_offer_counts() -> None:
    peer = {0x2C7CF000: 1, 0x2B603742: 1}
    chosen = select_dialect({2, 7}, peer, is_client=True)
    assert chosen is DIALECTS[2]
    assert select_dialect({7, 14}, peer, is_client=True) is None
    assert select_dialect({7, 14}, peer, is_client=False) is None


def test_a_zero_shows_nothing() -> None:
    zeros = {0x2B603742: 0, 0xC671706A: 0, 0x14E9CD29: 0, 0x2C7CF000: 0}
    assert select_dialect(ALL_DIALECTS, zeros, is_client=True) is None


def test_a_silent_client_is_taken_for_a_draft_that_tells_it_to_be_silent() -> None:
    assert select_dialect(ALL_DIALECTS, {0x33: 1}, is_client=False) is DIALECTS[7]
    assert select_dialect(ALL_DIALECTS, {0x33: 1, 0x2B65: 5}, is_client=False) is DIALECTS[16]
    assert select_dialect({2, 14}, {0x33: 1}, is_client=False) is None
    assert select_dialect(ALL_DIALECTS, {0x33: 1}, is_client=True) is None


def test_the_next_older_one_for_a_retry() -> None:
    peer = {0x2C7CF000: 1, 0xC671706A: 1}
    assert select_dialect(ALL_DIALECTS, peer, is_client=True, below=16) is DIALECTS[7]
    assert select_dialect(ALL_DIALECTS, peer, is_client=True, below=7) is None


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
