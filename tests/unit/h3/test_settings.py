"""SETTINGS: golden identifiers, what is advertised, and the rules for received ones."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pywebtransport.exceptions import ConfigurationError
from pywebtransport.h3._constants import H3Error
from pywebtransport.h3._errors import H3ConnectionError
from pywebtransport.h3._options import H3Options
from pywebtransport.h3._settings import (
    build_settings,
    check_settings,
    encode_settings,
    parse_settings,
)

NAMES = [
    (0x2B603742, "ab603742"),
    (0xC671706A, "c0000000c671706a"),
    (0x14E9CD29, "94e9cd29"),
    (0x2C7CF000, "ac7cf000"),
    (0xFFD277, "80ffd277"),
    (0x2B61, "6b61"),
    (0x2B64, "6b64"),
    (0x2B65, "6b65"),
]


@pytest.mark.parametrize(("identifier", "wire"), NAMES)
def test_golden_identifiers(identifier: int, wire: str) -> None:
    assert encode_settings({identifier: 1}) == bytes.fromhex(wire) + b"\x01"
    assert parse_settings(bytes.fromhex(wire) + b"\x01") == {identifier: 1}


def test_a_server_shows_every_generation() -> None:
    settings = build_settings(H3Options(max_sessions=7), is_client=False)
    assert settings[0x08] == settings[0x33] == settings[0xFFD277] == 1
    assert settings[0x2B603742] == settings[0x2C7CF000] == 1
    assert settings[0xC671706A] == settings[0x14E9CD29] == 7
    assert settings[0x2B61] > 0
    assert settings[0x2B64] > 0
    assert settings[0x2B65] > 0


def test_a_client_shows_the_same_without_extended_connect() -> None:
    ours = build_settings(H3Options(), is_client=True)
    theirs = build_settings(H3Options(), is_client=False)
    assert 0x08 not in ours
    assert ours | {0x08: 1} == theirs


@pytest.mark.parametrize("dialects", [{2}, {7}, {2, 7}])
def test_older_dialects_show_no_flow_control(dialects: set[int]) -> None:
    settings = build_settings(H3Options(dialects=frozenset(dialects)), is_client=False)
    assert not settings.keys() & {0x2B61, 0x2B64, 0x2B65, 0x14E9CD29, 0x2C7CF000}


@given(st.dictionaries(st.integers(6, 2**62 - 1), st.integers(0, 2**62 - 1), max_size=20))
def test_round_trip(settings: dict[int, int]) -> None:
    assert parse_settings(encode_settings(settings)) == settings


@given(st.binary(max_size=100))
def test_random_payloads_raise_nothing_else(payload: bytes) -> None:
    code = None
    try:
        parse_settings(payload)
    except H3ConnectionError as error:
        code = error.code
    assert code in (None, H3Error.FRAME_ERROR, H3Error.SETTINGS_ERROR)


@pytest.mark.parametrize("payload", ["08", "0840", "40", "080133"])
def test_a_cut_payload_is_a_frame_error(payload: str) -> None:
    with pytest.raises(H3ConnectionError) as caught:
        parse_settings(bytes.fromhex(payload))
    assert caught.value.code == H3Error.FRAME_ERROR


@pytest.mark.parametrize("identifier", [0x00, 0x02, 0x03, 0x04, 0x05])
def test_settings_of_http2_are_refused(identifier: int) -> None:
    with pytest.raises(H3ConnectionError) as caught:
        parse_settings(bytes([identifier, 0]))
    assert caught.value.code == H3Error.SETTINGS_ERROR


def test_wt_enabled_above_one_binds_clients_only() -> None:
    check_settings({0x2C7CF000: 2}, is_client=False)
    with pytest.raises(H3ConnectionError):
        check_settings({0x2C7CF000: 2}, is_client=True)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("dialects", frozenset()),
        ("dialects", frozenset({3})),
        ("max_sessions", 0),
        ("initial_max_data", 0),
        ("initial_max_streams_bidi", 2**60 + 1),
        ("early_timeout", 0),
        ("max_field_section_size", 10),
        ("peer_bidi_streams", 0),
    ],
)
def test_options_out_of_range_are_named(name: str, value: object) -> None:
    with pytest.raises(ConfigurationError, match=name) as caught:
        H3Options(**{name: value})  # type: ignore[arg-type]
    assert caught.value.config_key == name
