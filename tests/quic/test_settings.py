"""Settings by name: each reaches the engine, each bad one is named."""

from __future__ import annotations

from typing import Any

import pytest

from pywebtransport._quic import QLOG_SUPPORTED, QuicEndpoint
from pywebtransport.exceptions import ConfigurationError

from .harness import Lab

GOOD: dict[str, list[Any]] = {
    "idle_timeout": [1_000_000, 60 * 10**9],
    "handshake_timeout": [10**9],
    "keep_alive": [0, 10**9],
    "initial_max_data": [100_000, 1 << 30],
    "initial_max_stream_data": [10_000, 1 << 26],
    "max_unread_data": [0, 1 << 30],
    "max_data_window": [1 << 30],
    "max_stream_window": [1 << 30],
    "max_streams_bidi": [0, 1, 10_000],
    "max_streams_uni": [3, 10_000],
    "max_datagram_frame_size": [0, 1500, 65535],
    "datagram_queue_count": [1, 100_000],
    "datagram_queue_bytes": [100_000],
    "stream_write_low": [0, 1 << 20],
    "max_queued_data": [0, 1 << 40],
    "max_tx_udp_payload_size": [1200, 1452],
    "pmtud": [0, 1, True],
    "known_mtu": [0, 1],
    "ecn": [0, False],
    "pacing": [0, 1],
    "cc": ["cubic", "reno", "bbr"],
    "prefer_v2": [0, 1],
    "enable_migration": [0, 1],
    "retry": ["off", "auto", "always"],
    "retry_half_open": [5],
    "max_half_open": [10],
    "max_connections": [1],
    "max_half_open_per_address": [0, 10],
    "max_connections_per_address": [0, 1],
    "handshakes_per_address": [0, 1000],
    "stateless_resets_per_second": [10],
    "max_leftovers": [10],
    "max_resets_per_second": [100],
    "excessive_load_code": [0x107, (1 << 62) - 1],
    "cid_len": [8, 18],
    "worker_index": [-1, 0, 255],
    "worker_count": [0],
    "lb_server_id": [b"", b"\xaa\xbb\xcc"],
    "lb_config": [0, 6],
    "secrets": [[bytes(range(32))], (bytes(32), bytes(range(32)))],
    "recv_batch": [1, 1000],
    "send_batch": [65536],
    "debug": [0],
    "qlog": [0],
}


def make(settings: dict[Any, Any], **options: Any) -> QuicEndpoint:
    arguments = {
        "is_server": False,
        "tls": None,
        "accept": None,
        "schedule_flush": lambda: None,
        "on_error": print,
        **options,
    }
    return QuicEndpoint(settings=settings, **arguments)


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in GOOD.items() for value in values]
)
def test_good_setting_makes_a_working_connection(lab: Lab, name: str, value: Any) -> None:
    settings = {name: value}
    with lab.link(server={"settings": settings}, client={"settings": settings}) as link:
        assert link.near.closed is None


@pytest.mark.parametrize("name", sorted(GOOD))
def test_bad_type_is_named(name: str) -> None:
    for value in (None, "nonsense", 1.5, [], -2, 1 << 64):
        with pytest.raises(ConfigurationError) as caught:
            make({name: value})
        assert caught.value.config_key == name


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"max_tx_udp_payload_size": 1199}, "max_tx_udp_payload_size"),
        ({"max_tx_udp_payload_size": 65528}, "max_tx_udp_payload_size"),
        ({"cid_len": 7}, "cid_len"),
        ({"cid_len": 19}, "cid_len"),
        ({"worker_index": 256}, "worker_index"),
        ({"worker_index": 2, "worker_count": 2}, "worker_index"),
        ({"worker_count": 257}, "worker_count"),
        ({"lb_server_id": bytes(14)}, "lb_server_id"),
        ({"lb_server_id": bytes(4), "cid_len": 8}, "lb_server_id"),
        ({"lb_server_id": bytes(3), "cid_len": 8, "worker_index": 1}, "lb_server_id"),
        ({"lb_config": 7}, "lb_config"),
        ({"recv_batch": 0}, "recv_batch"),
        ({"initial_max_data": 1 << 62}, "initial_max_data"),
        ({"initial_max_data": 1000, "max_data_window": 999}, "max_data_window"),
        ({"initial_max_stream_data": 1000, "max_stream_window": 999}, "max_stream_window"),
        ({"secrets": [b"short"]}, "secrets"),
        ({"secrets": []}, "secrets"),
        ({"secrets": [bytes(32)] * 5}, "secrets"),
        ({"no_such": 1}, "no_such"),
    ],
)
def test_value_out_of_range_is_named(settings: dict[str, Any], name: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        make(settings)
    assert caught.value.config_key == name


def test_names_are_strings() -> None:
    with pytest.raises(ConfigurationError):
        make({1: 1})


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"is_server": True}, "tls"),
        ({"schedule_flush": None}, "schedule_flush"),
        ({"on_error": 5}, "on_error"),
    ],
)
def test_bad_argument_is_named(options: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        make({}, **options)
    assert caught.value.config_key == key


def test_server_needs_accept_and_its_own_tls(lab: Lab) -> None:
    with pytest.raises(ConfigurationError, match="accept"):
        make({}, is_server=True, tls=lab.server_tls)
    with pytest.raises(ConfigurationError, match="is_server"):
        make({}, is_server=True, tls=lab.client_tls, accept=print)
    with pytest.raises(ConfigurationError, match="is_server"):
        make({}, tls=lab.server_tls)


def test_secret_is_not_repeated_in_the_error() -> None:
    with pytest.raises(ConfigurationError) as caught:
        make({"secrets": [b"hush"]})
    assert "hush" not in str(caught.value)
    assert caught.value.config_value is None


def test_endpoint_is_made_once(lab: Lab) -> None:
    with lab.side(False) as side, pytest.raises(RuntimeError, match="twice"):
        side.endpoint.__init__(  # type: ignore[misc]
            is_server=False,
            settings={},
            tls=None,
            accept=None,
            schedule_flush=print,
            on_error=print,
        )


def test_debug_log_goes_to_its_callback(lab: Lab) -> None:
    lines: list[str] = []
    with lab.link(client={"settings": {"debug": 1}, "log": lines.append}):
        assert lines
        assert all(isinstance(line, str) for line in lines)


def test_exception_in_the_log_callback_is_reported(lab: Lab) -> None:
    def fail(line: str) -> None:
        raise ValueError(line)

    with lab.link(client={"settings": {"debug": 1}, "log": fail, "errors": None}) as link:
        assert link.client.errors
        assert all(isinstance(error, ValueError) for error in link.client.errors)


def test_qlog_works_or_is_refused_with_the_reason(lab: Lab) -> None:
    written: list[bytes] = []
    settings = {"qlog": 1}

    def qlog(connection: object, data: bytes, last: bool) -> None:
        written.append(data)

    if not QLOG_SUPPORTED:
        with pytest.raises(ConfigurationError, match=r"1\.23") as caught:
            make(settings, qlog=qlog)
        assert caught.value.config_key == "qlog"
        return
    with lab.link(client={"settings": settings, "qlog": qlog}):
        assert written
