"""What the configuration makes of the windows of a connection."""

from __future__ import annotations

import pytest

from pywebtransport import ClientConfig
from pywebtransport._core.settings import quic_settings

KIB = 1 << 10
MIB = 1 << 20


@pytest.mark.parametrize(("auto", "ceiling"), [(True, 8 * MIB), (False, MIB)])
def test_windows_grow_only_when_they_may(auto: bool, ceiling: int) -> None:
    settings = quic_settings(ClientConfig(flow_control_window_auto_scale=auto))
    assert settings["initial_max_stream_data"] == MIB
    assert settings["max_stream_window"] == ceiling
    assert settings["max_unread_data"] == 16 * MIB
    assert (settings["max_data_window"] > settings["max_unread_data"]) is auto


@pytest.mark.parametrize("field", ["max_read_buffer_size", "max_stream_buffer_size"])
def test_window_is_never_above_what_a_stream_may_hold(field: str) -> None:
    settings = quic_settings(ClientConfig(**{field: 4096}))
    assert settings["initial_max_stream_data"] == settings["max_stream_window"] == 4096


def test_connection_has_room_for_two_full_streams() -> None:
    config = ClientConfig(max_read_buffer_size=64 * MIB, max_stream_buffer_size=64 * MIB)
    assert quic_settings(config)["max_unread_data"] == 128 * MIB


@pytest.mark.parametrize("window", [20_000, MIB, 8 * MIB])
def test_a_connection_begins_with_credit_for_one_stream(window: int) -> None:
    """And for what HTTP/3 itself sends; an idle connection promises no more memory."""
    settings = quic_settings(ClientConfig(flow_control_window_size=window))
    assert settings["initial_max_stream_data"] == window
    assert settings["initial_max_data"] == window + 64 * KIB
    small = ClientConfig(initial_max_data=1000, max_read_buffer_size=10_000)
    assert quic_settings(small)["initial_max_data"] == 20_000


def test_all_streams_of_a_connection_share_a_write_buffer() -> None:
    assert quic_settings(ClientConfig())["max_queued_data"] == 16 * MIB
    config = ClientConfig(max_write_buffer_size=64 * MIB, max_stream_buffer_size=64 * MIB)
    assert quic_settings(config)["max_queued_data"] == 128 * MIB
