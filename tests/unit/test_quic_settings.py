"""What the configuration makes of the windows of a connection."""

from __future__ import annotations

import pytest

from pywebtransport import ClientConfig
from pywebtransport.connection.settings import h3_options, quic_settings

MIB = 1 << 20


@pytest.mark.parametrize(("auto", "ceiling"), [(True, 8 * MIB), (False, MIB)])
def test_windows_grow_only_when_they_may(auto: bool, ceiling: int) -> None:
    settings = quic_settings(ClientConfig(flow_control_window_auto_scale=auto))
    assert settings["initial_max_stream_data"] == MIB
    assert settings["max_stream_window"] == ceiling
    assert settings["initial_max_data"] == 2 * MIB
    assert settings["max_data_window"] == (16 * MIB if auto else 2 * MIB)


@pytest.mark.parametrize("field", ["max_read_buffer_size", "max_stream_buffer_size"])
def test_window_is_never_above_what_a_stream_may_hold(field: str) -> None:
    settings = quic_settings(ClientConfig(**{field: 4096}))
    assert settings["initial_max_stream_data"] == settings["max_stream_window"] == 4096


def test_connection_has_room_for_two_full_streams() -> None:
    config = ClientConfig(
        flow_control_window_size=16 * MIB,
        max_read_buffer_size=64 * MIB,
        max_stream_buffer_size=64 * MIB,
    )
    settings = quic_settings(config)
    assert (settings["initial_max_data"], settings["max_data_window"]) == (32 * MIB, 128 * MIB)
    small = ClientConfig(initial_max_data=10_000, flow_control_window_size=2000)
    assert h3_options(small).max_data == 160_000
