"""Configurations: defaults, checking, conversion, combination, documentation."""

import base64
import copy
import dataclasses
import json
import pickle
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pywebtransport.config import BaseConfig, ClientConfig, ConfigBuilder, ServerConfig
from pywebtransport.config._fields import Number
from pywebtransport.exceptions import ConfigurationError
from pywebtransport.testing import Network
from pywebtransport.types import HeaderMap
from tests.support.configs import BOTH, COMPANIONS, HASH, Config, allow, both, documented

# Good values that are not the default, each with its normal form. Every field has a row.
NETWORK = Network()
COMMON: dict[str, tuple[Any, Any]] = {
    "alpn_protocols": (("h3", "h3-29"), ["h3", "h3-29"]),
    "application_protocols": (["chat", "echo v1"], ["chat", "echo v1"]),
    "busy_poll_us": (60.0, 60),
    "ca_certs": (Path("/ca.pem"), "/ca.pem"),
    "close_timeout": (2, 2.0),
    "congestion_control_algorithm": ("CUBIC", "cubic"),
    "connection_cleanup_interval": (1.5, 1.5),
    "connection_idle_check_interval": (1.5, 1.5),
    "connection_idle_timeout": (10, 10.0),
    "connection_keepalive_timeout": (3, 3.0),
    "datagram_max_age": (0.5, 0.5),
    "datagram_queue_size": (7.0, 7),
    "debug": (True, True),
    "dialects": ((16, 2, 16), [2, 16]),
    "ecn": (False, False),
    "extra_enabling_settings": ({"0x2C7CF001": 16, 9: 2}, {0x2C7CF001: 16, 9: 2}),
    "flow_control_window_auto_scale": (False, False),
    "flow_control_window_size": (65536, 65536),
    "gso": (False, False),
    "handshake_timeout": (3, 3.0),
    "initial_max_data": (2**62 - 1, 2**62 - 1),
    "initial_max_streams_bidi": (1, 1),
    "initial_max_streams_uni": (2**60, 2**60),
    "ip_family": ("IPv6", "ipv6"),
    "keep_alive": (False, False),
    "keylog_file": ("keys.log", "keys.log"),
    "log_level": ("debug", "DEBUG"),
    "max_connections": (7, 7),
    "max_connection_memory": (1 << 20, 1 << 20),
    "max_datagram_size": (1200, 1200),
    "max_early_bytes": (2048, 2048),
    "max_early_streams": (0, 0),
    "max_field_section_size": (16384, 16384),
    "max_incoming_streams": (5, 5),
    "max_memory": (1 << 20, 1 << 20),
    "max_pending_events_per_session": (0, 0),
    "max_read_buffer_size": (4096, 4096),
    "max_session_memory": (1 << 20, 1 << 20),
    "max_stream_buffer_size": (4096, 4096),
    "max_total_pending_events": (0, 0),
    "max_write_buffer_size": (4096, 4096),
    "network": (NETWORK, NETWORK),
    "pending_event_ttl": (1, 1.0),
    "pmtud": (False, False),
    "qlog_dir": (".", "."),
    "read_timeout": (3, 3.0),
    "socket_buffer_size": (65536, 65536),
    "stream_buffer_size": (4096, 4096),
    "stream_cleanup_interval": (1, 1.0),
    "stream_flow_control_increment_bidi": (5, 5),
    "stream_flow_control_increment_uni": (5, 5),
    "udp_payload_size": (1400, 1400),
    "write_timeout": (3, 3.0),
}
CLIENT: dict[str, tuple[Any, Any]] = {
    **COMMON,
    "allow_pooling": (True, True),
    "auto_reconnect": (True, True),
    "certfile": ("c.pem", "c.pem"),
    "connect_timeout": (3, 3.0),
    "fallback": ("WebSocket", "websocket"),
    "fallback_delay": (0, 0.0),
    "fallback_proxy": ("http://a:b@p:3128", "http://a:b@p:3128"),
    "happy_eyeballs_delay": (0, 0.0),
    "headers": ({"Authorization": " Bearer x "}, HeaderMap([("authorization", "Bearer x")])),
    "keyfile": ("k.pem", "k.pem"),
    "max_retries": (0, 0),
    "max_retry_delay": (90, 90.0),
    "max_streams": (7, 7),
    "require_application_protocol": (True, True),
    "retry_backoff": (1, 1.0),
    "retry_delay": (2, 2.0),
    "server_certificate_hashes": (
        (
            HASH,
            HASH.hex(":"),
            HASH.hex().upper(),
            base64.b64encode(HASH).decode(),
            base64.urlsafe_b64encode(HASH).decode().rstrip("="),
            {"algorithm": "sha-256", "value": HASH},
        ),
        [HASH] * 6,
    ),
    "stream_creation_timeout": (3, 3.0),
    "user_agent": ("", ""),
    "verify_mode": ("cert_none", ssl.CERT_NONE),
}
SERVER: dict[str, tuple[Any, Any]] = {
    **COMMON,
    "access_log": (False, False),
    "allowed_origins": (
        ["https://Example.org:443", "http://localhost:8080", "https://[::1]:1", "null", "*"],
        ["https://example.org", "http://localhost:8080", "https://[::1]:1", "null", "*"],
    ),
    "bind_host": ("", ""),
    "bind_port": (0, 0),
    "certfile": ("c.pem", "c.pem"),
    "drain_spread": (5, 5.0),
    "drain_timeout": (0, 0.0),
    "gc_policy": ("SERVER", "server"),
    "keyfile": ("k.pem", "k.pem"),
    "max_connections_per_address": (7, 7),
    "max_sessions_per_address": (None, None),
    "max_half_open_connections": (7, 7),
    "max_handshakes_per_address": (7, 7),
    "max_request_body": (0, 0),
    "max_requests": (7, 7),
    "max_sessions": (7, 7),
    "max_streams_per_connection": (7, 7),
    "max_websocket_message": (7, 7),
    "middleware": ((allow,), [allow]),
    "quic_lb_config_id": (6, 6),
    "quic_lb_server_id": ("0xAABB", b"\xaa\xbb"),
    "request_timeout": (7, 7.0),
    "retry": ("ALWAYS", "always"),
    "session_cleanup_interval": (1, 1.0),
    "shared_secret": ((HASH, Path("old")), [HASH, "old"]),
    "shutdown_timeout": (0, 0.0),
    "sni_certificates": (
        {"*.Example.org": [Path("a.crt"), "a.key"]},
        {"*.example.org": ("a.crt", "a.key")},
    ),
    "verify_mode": (ssl.CERT_REQUIRED, ssl.CERT_REQUIRED),
    "websocket": (True, True),
    "websocket_legacy": (True, True),
    "websocket_ping_interval": (7, 7.0),
    "workers": (256, 256),
}
TABLES: dict[Config, dict[str, tuple[Any, Any]]] = {ClientConfig: CLIENT, ServerConfig: SERVER}
BAD_NUMBERS = (True, "1", None, float("nan"), float("inf"), -1, 2**63)
BAD: dict[str, tuple[Any, ...]] = {
    "network": ("memory", 3, True),
    "alpn_protocols": ([], "h3", ["h3", "h3"], [""], ["x" * 256], [3], 3, ["é"]),
    "application_protocols": ("chat", ["a\n"], ["a", "a"], None),
    "allowed_origins": (
        "https://a",
        3,
        [3],
        ["a.org"],
        ["https://a/path"],
        ["https://a?"],
        ["https://a#"],
        ["https://u@a"],
        ["https://a:x"],
        ["https://"],
    ),
    "bind_host": (None, 3, "a\nb"),
    "bind_port": (-1, 65536, "x", 1.5, True),
    "ca_certs": (3, "a\0b"),
    "congestion_control_algorithm": ("vegas", None, 1),
    "connect_timeout": (0, *BAD_NUMBERS),
    "debug": (1, "yes", None),
    "dialects": ([], [3], [True], 2, "2"),
    "extra_enabling_settings": (
        [9],
        {9: 3},
        {9: True},
        {9: "16"},
        {9: []},
        {True: 16},
        {9.0: 16},
        {"nine": 16},
        {-1: 16},
        {1 << 62: 16},
        {0x33: 16},
        {0x2C7CF000: 16},
        {0x05: 16},
        {0x40: 16},
    ),
    "headers": (
        [],
        {"": "x"},
        {":path": "/"},
        {"Host": "x"},
        {"a b": "x"},
        {"a": 3},
        {"a": ["b", 3]},
        {"a": ["b", "x\r\ny: z"]},
        {"a": "x\r\ny: z"},
        {3: "x"},
    ),
    "initial_max_data": BAD_NUMBERS,
    "ip_family": ("ipv5", None),
    "keylog_file": (3,),
    "max_connection_memory": (0, 65535, 1.5, None),
    "max_connections_per_address": (0, -1, 1.5, "all", "", True),
    "max_sessions_per_address": (0, -1, 1.5, "all", "", True),
    "max_datagram_size": (0, 65536, 1.5),
    "max_memory": (0, 65535, 1.5),
    "max_session_memory": (0, 65535, 1.5, None),
    "max_retries": (-1, 0.5),
    "middleware": ("x", 3, [3]),
    "read_timeout": (0, -1, "1", float("nan")),
    "quic_lb_config_id": (7, -1),
    "quic_lb_server_id": ("0x1", bytes(14)),
    "retry": ("sometimes", None),
    "retry_backoff": (0.5, None),
    "server_certificate_hashes": (
        "x",
        HASH,
        {"algorithm": "sha-256", "value": HASH},
        3,
        [b"short"],
        ["zz" * 32],
        ["ab" * 31],
        ["a" * 43],  # hex digits that were cut off
        ["a" * 42 + "!"],
        ["é" * 43],
        ["x" * 44],
        [3],
        [{"algorithm": "sha-1", "value": HASH}],
        [{"algorithm": "sha-256"}],
        [{"value": HASH}],
    ),
    "shared_secret": (
        b"",
        bytes(31),
        "",
        "a\0b",
        3,
        True,
        [],
        [3],
        [HASH, b"short"],
        [HASH] * 5,
        {},
        {"hex": 3},
        {"hex": "zz"},
        {"hex": "00"},
    ),
    "sni_certificates": (
        [],
        {"a": "x"},
        {"a": ["c.pem"]},
        {"a": ["c.pem", ""]},
        {"": ["c", "k"]},
        {"a/b": ["c", "k"]},
        {3: ["c", "k"]},
        {"a": [3, "k"]},
    ),
    "user_agent": (None, "a\nb"),
    "verify_mode": ("maybe", 7, True, 1.0),
    "workers": (0, 257),
}


def rows(table: dict[Config, dict[str, tuple[Any, ...]]]) -> list[Any]:
    return [
        pytest.param(cls, name, *row, id=f"{cls.__name__}-{name}")
        for cls, fields in table.items()
        for name, row in fields.items()
    ]


def bad_rows() -> list[Any]:
    return [
        pytest.param(cls, name, value, id=f"{cls.__name__}-{name}-{value!r:.30}")
        for name, values in BAD.items()
        for cls in BOTH
        if name in TABLES[cls]
        for value in values
    ]


@both
def test_every_field_has_a_rule_and_a_row_here(cls: Config) -> None:
    names = {item.name for item in dataclasses.fields(cls)}
    assert names == set(cls._rules)
    assert names == set(TABLES[cls])


@both
def test_defaults_are_valid_and_in_normal_form(cls: Config) -> None:
    config = cls()
    assert {name: getattr(config, name) for name in cls._rules} == cls._defaults()
    config.validate()


@pytest.mark.parametrize(("cls", "name", "given_value", "normal"), rows(TABLES))
def test_good_value_takes_its_normal_form(
    cls: Config, name: str, given_value: Any, normal: Any
) -> None:
    config = cls(**{**COMPANIONS.get(name, {}), name: given_value})
    value = getattr(config, name)
    assert value == normal
    assert type(value) is type(normal)
    assert value != cls._defaults()[name]


@pytest.mark.parametrize(("cls", "name", "given_value", "normal"), rows(TABLES))
def test_every_field_survives_json(cls: Config, name: str, given_value: Any, normal: Any) -> None:
    config = cls(**{**COMPANIONS.get(name, {}), name: given_value})
    exported = config.to_dict()
    if name not in ("middleware", "network"):  # objects
        exported = json.loads(json.dumps(exported))
    assert cls.from_dict(config_dict=exported) == config


@pytest.mark.parametrize(("cls", "name", "value"), bad_rows())
def test_bad_value_is_refused_with_its_name(cls: Config, name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        cls(**{**COMPANIONS.get(name, {}), name: value})
    assert caught.value.config_key == name
    assert str(caught.value).startswith(f"{name} = ")
    assert "expected" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("connect_timeout", -1, "a number greater than 0 and at most 1,000,000,000 (seconds)"),
        ("max_streams", 0, "an integer from 1 to 2,147,483,648 (streams)"),
        ("initial_max_data", -1, "or 0 for the default (16,777,216)"),
        ("read_timeout", 0, "greater than 0 and at most 1,000,000,000 (seconds), or None"),
        ("congestion_control_algorithm", "x", "one of 'cubic', 'reno', 'bbr'"),
        ("dialects", [1], "a non-empty list out of 2, 7, 14, 16"),
        ("verify_mode", "x", "CERT_NONE, CERT_OPTIONAL, CERT_REQUIRED"),
        ("qlog_dir", 3, "the path of a directory, or None"),
    ],
)
def test_message_tells_range_and_unit(name: str, value: Any, words: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        ClientConfig(**{name: value})
    assert repr(value) in str(caught.value)
    assert words in str(caught.value)


def test_message_of_a_bad_hash_shows_the_member() -> None:
    with pytest.raises(ConfigurationError, match=r"= b'x': 1 byte; expected a list of SHA-256"):
        ClientConfig(server_certificate_hashes=[HASH, b"x"])


def test_header_values_stay_out_of_messages_and_repr() -> None:
    secret = {"authorization": "Bearer s3cret", "x-bad": "a\nb"}
    with pytest.raises(ConfigurationError) as caught:
        ClientConfig(headers=secret)
    assert "s3cret" not in str(caught.value)
    assert "s3cret" not in repr(caught.value)
    assert "s3cret" not in repr(ClientConfig(headers={"authorization": "Bearer s3cret"}))


@pytest.mark.parametrize("name", ["initial_max_data", "initial_max_streams_bidi"])
@both
def test_zero_limit_is_the_default(cls: Config, name: str) -> None:
    values: dict[str, Any] = {name: 0}
    assert getattr(cls(**values), name) == cls._defaults()[name] > 0


def unknown_ways(cls: Config) -> list[Callable[[], object]]:
    wrong: dict[str, Any] = {"conection_idle_timeout": 3}
    return [
        lambda: cls(**wrong),
        lambda: cls.create(**wrong),
        lambda: cls.from_dict(config_dict=wrong),
        lambda: cls().update(**wrong),
        lambda: cls().merge(other=wrong),
        lambda: setattr(cls(), "conection_idle_timeout", 3),
    ]


@pytest.mark.parametrize("way", range(6))
@both
def test_unknown_field_names_the_nearest(cls: Config, way: int) -> None:
    with pytest.raises(ConfigurationError, match="did you mean connection_idle_timeout") as caught:
        unknown_ways(cls)[way]()
    assert (caught.value.config_key, caught.value.config_value) == ("conection_idle_timeout", 3)
    assert cls.__name__ in str(caught.value)


def test_unknown_field_without_neighbours() -> None:
    with pytest.raises(ConfigurationError) as caught:
        ClientConfig.create(zzz=1)
    assert "did you mean" not in str(caught.value)


@both
def test_values_are_not_shared_with_the_caller(cls: Config) -> None:
    protocols = ["chat"]
    config = cls(application_protocols=protocols)
    twin = config.copy()
    protocols.append("x")
    config.application_protocols.append("y")
    assert config.application_protocols == ["chat", "y"]
    assert twin.application_protocols == ["chat"]
    exported = twin.to_dict()
    exported["application_protocols"].append("z")
    assert twin.application_protocols == ["chat"]
    assert cls().alpn_protocols is not cls().alpn_protocols


@both
def test_copies_and_pickles_are_equal(cls: Config) -> None:
    config = cls(max_connections=7)
    for twin in (config.copy(), copy.copy(config), copy.deepcopy(config)):
        assert twin == config
        assert twin is not config
    assert pickle.loads(pickle.dumps(config)) == config


@both
def test_update_gives_a_new_checked_configuration(cls: Config) -> None:
    config = cls()
    changed = config.update(connection_idle_timeout=5)
    assert type(changed) is cls
    assert (changed.connection_idle_timeout, config.connection_idle_timeout) == (5.0, 60.0)
    with pytest.raises(ConfigurationError, match="connection_idle_timeout"):
        config.update(connection_idle_timeout=-1)


def test_merge_with_a_dictionary_takes_all_of_it() -> None:
    merged = ClientConfig(max_streams=7).merge(other={"max_streams": 1000, "debug": True})
    assert (merged.max_streams, merged.debug) == (1000, True)


def test_merge_with_a_configuration_takes_what_it_changes() -> None:
    base = ServerConfig(max_sessions=7, bind_port=1)
    merged = base.merge(other=ServerConfig(bind_port=2))
    assert (merged.max_sessions, merged.bind_port) == (7, 2)
    assert (base.bind_port, type(merged)) == (1, ServerConfig)


def test_merge_with_something_else_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="cannot be merged with ServerConfig"):
        ClientConfig().merge(other=ServerConfig())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("cls", "values", "key"),
    [
        (ClientConfig, {"certfile": "c.pem"}, "keyfile"),
        (ClientConfig, {"keyfile": "k.pem"}, "certfile"),
        (ServerConfig, {"certfile": "c.pem"}, "keyfile"),
        (ServerConfig, {"keyfile": "k.pem"}, "certfile"),
        (ServerConfig, {"verify_mode": ssl.CERT_REQUIRED}, "verify_mode"),
        (ClientConfig, {"require_application_protocol": True}, "require_application_protocol"),
        (ClientConfig, {"retry_delay": 31}, "max_retry_delay"),
        (ClientConfig, {"allow_pooling": True, "server_certificate_hashes": [HASH]}, "allow_pool"),
    ],
)
def test_contradictions_are_refused(cls: Config, values: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        cls(**values)
    assert (caught.value.config_key or "").startswith(key)


def test_validate_sees_values_set_later() -> None:
    config = ClientConfig()
    config.connect_timeout = -1
    with pytest.raises(ConfigurationError, match="connect_timeout = -1"):
        config.validate()


def pair(directory: Path) -> tuple[str, str]:
    files = directory / "a.crt", directory / "a.key"
    for file in files:
        file.write_text("x")
    return str(files[0]), str(files[1])


def test_files_are_looked_for_by_validate_only(tmp_path: Path) -> None:
    cert, key = pair(tmp_path)
    ServerConfig(certfile=cert, keyfile=key, sni_certificates={"a.org": (cert, key)}).validate()
    ClientConfig(
        ca_certs=cert, qlog_dir=str(tmp_path), keylog_file=str(tmp_path / "new.log")
    ).validate()
    ClientConfig(keylog_file="new.log").validate()
    missing = str(tmp_path / "missing")
    for config, field in (
        (ServerConfig(certfile=missing, keyfile=key), "certfile"),
        (ServerConfig(certfile=cert, keyfile=missing), "keyfile"),
        (ServerConfig(sni_certificates={"a.org": (cert, missing)}), "sni_certificates['a.org']"),
        (ClientConfig(ca_certs=missing), "ca_certs"),
        (ClientConfig(qlog_dir=cert), "qlog_dir"),
        (ClientConfig(keylog_file=f"{missing}/new.log"), "keylog_file"),
    ):
        with pytest.raises(ConfigurationError) as caught:
            config.validate()
        assert caught.value.config_key == field


@both
def test_buffer_limits_have_one_ceiling(cls: Config) -> None:
    config = cls(max_stream_buffer_size=4096, max_read_buffer_size=2048)
    assert (config.read_buffer_limit, config.write_buffer_limit) == (2048, 4096)
    assert config.stream_window == 2048
    assert config.write_resume_size == 2048
    assert cls().stream_window == 1024 * 1024
    assert cls(stream_buffer_size=1024).write_resume_size == 1024


def test_client_may_leave_the_verify_mode_open() -> None:
    config = ClientConfig(verify_mode=None)
    assert config.verify_mode is None
    assert ClientConfig.from_dict(config_dict=config.to_dict()) == config


def test_keep_alive_fits_into_the_idle_timeout() -> None:
    assert ClientConfig().keep_alive_interval == 30.0
    assert ClientConfig(connection_idle_timeout=10).keep_alive_interval == 5.0
    assert ClientConfig(keep_alive=False).keep_alive_interval is None


def test_client_presets() -> None:
    relaxed = ClientConfig.create_for_development()
    assert (relaxed.verify_mode, relaxed.log_level) == (ssl.CERT_NONE, "DEBUG")
    assert ClientConfig.create_for_development(verify_ssl=True).verify_mode is ssl.CERT_REQUIRED
    strict = ClientConfig.create_for_production(ca_certs="a", certfile="c", keyfile="k")
    assert strict.verify_mode is ssl.CERT_REQUIRED
    assert (strict.ca_certs, strict.certfile, strict.keyfile) == ("a", "c", "k")


def test_server_presets() -> None:
    relaxed = ServerConfig.create_for_development(port=0)
    assert relaxed.get_bind_address() == ("localhost", 0)
    assert (relaxed.certfile, relaxed.keyfile) == ("", "")
    strict = ServerConfig.create_for_production(host="::", port=443, certfile="c", keyfile="k")
    assert (strict.get_bind_address(), strict.verify_mode) == (("::", 443), ssl.CERT_NONE)
    mutual = ServerConfig.create_for_production(
        host="::", port=443, certfile="c", keyfile="k", ca_certs="a"
    )
    assert mutual.verify_mode is ssl.CERT_OPTIONAL
    for values in ({"certfile": "", "keyfile": "k"}, {"certfile": "c", "keyfile": ""}):
        with pytest.raises(ConfigurationError, match="needs a certificate"):
            ServerConfig.create_for_production(host="::", port=443, **values)


def test_builder_makes_a_client() -> None:
    config = (
        ConfigBuilder()
        .debug()
        .flow_control(
            window_size=65536,
            window_auto_scale=False,
            initial_max_data=1,
            initial_max_streams_bidi=2,
            initial_max_streams_uni=3,
            stream_increment_bidi=4,
            stream_increment_uni=5,
        )
        .performance(max_streams=6, buffer_size=4096, max_connections=7)
        .security(ca_certs="a", certfile="c", keyfile="k", verify_mode=ssl.CERT_NONE)
        .timeout(connect=1, read=2, write=3)
        .build()
    )
    assert config == ClientConfig(
        debug=True,
        log_level="DEBUG",
        flow_control_window_size=65536,
        flow_control_window_auto_scale=False,
        initial_max_data=1,
        initial_max_streams_bidi=2,
        initial_max_streams_uni=3,
        stream_flow_control_increment_bidi=4,
        stream_flow_control_increment_uni=5,
        max_streams=6,
        stream_buffer_size=4096,
        max_connections=7,
        ca_certs="a",
        certfile="c",
        keyfile="k",
        verify_mode=ssl.CERT_NONE,
        connect_timeout=1,
        read_timeout=2,
        write_timeout=3,
    )


def test_builder_makes_a_server() -> None:
    builder = ConfigBuilder(config_type="server").bind(host="::", port=1)
    config = builder.performance(max_streams=6).timeout(read=2).debug(enabled=False).build()
    assert config == ServerConfig(
        bind_host="::", bind_port=1, max_streams_per_connection=6, read_timeout=2
    )


def test_builder_refuses_what_does_not_fit() -> None:
    with pytest.raises(ConfigurationError, match="expected 'client' or 'server'"):
        ConfigBuilder(config_type="proxy")
    with pytest.raises(ConfigurationError, match="ClientConfig has no field 'bind_host'"):
        ConfigBuilder().bind(host="::", port=1).build()
    with pytest.raises(ConfigurationError, match="ServerConfig has no field 'connect_timeout'"):
        ConfigBuilder(config_type="server").timeout(connect=1).build()


@both
def test_every_field_is_documented_with_its_unit(cls: Config) -> None:
    texts = documented(BaseConfig) | documented(cls)
    assert set(texts) == set(cls._rules)
    for name, rule in cls._rules.items():
        if isinstance(rule, Number) and rule.unit in ("seconds", "bytes", "streams", "datagrams"):
            assert rule.unit in texts[name].lower(), name


def values_of(cls: Config) -> st.SearchStrategy[dict[str, Any]]:
    """Any good values of the numeric and boolean fields, together."""
    strategies: dict[str, st.SearchStrategy[Any]] = {}
    for name, rule in cls._rules.items():
        if isinstance(rule, Number):
            low, high = rule.low, rule.high
            if rule.integer:
                values: st.SearchStrategy[Any] = st.integers(int(low), int(high))
            else:
                values = st.floats(low, high, exclude_min=rule.above)
            strategies[name] = st.none() | values if rule.optional else values
        elif isinstance(cls._defaults()[name], bool):
            strategies[name] = st.booleans()
    for name in ("max_retry_delay", "retry_delay", "require_application_protocol"):
        strategies.pop(name, None)
    return st.fixed_dictionaries({}, optional=strategies)


@pytest.mark.parametrize("cls", BOTH)
@given(data=st.data())
def test_any_good_values_survive_json(cls: Config, data: st.DataObject) -> None:
    values = data.draw(values_of(cls))
    config = cls(**values)
    assert {name: getattr(config, name) for name in values} == values
    again = cls.from_dict(config_dict=json.loads(json.dumps(config.to_dict())))
    assert again == config
    assert cls().merge(other=config) == config  # type: ignore[arg-type]


@given(
    st.dictionaries(
        st.sampled_from(sorted(CLIENT)),
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.text()),
        max_size=4,
    )
)
def test_any_value_is_accepted_or_refused_by_name(values: dict[str, Any]) -> None:
    refused = None
    try:
        config = ClientConfig(**values)
    except ConfigurationError as error:
        refused = error.config_key
    if refused is None:
        assert ClientConfig.from_dict(config_dict=config.to_dict()) == config
    else:
        assert refused in ClientConfig._rules


def test_a_directory_is_not_called_missing(tmp_path: Path) -> None:
    config = ClientConfig(ca_certs=str(tmp_path))
    with pytest.raises(ConfigurationError, match=r"^ca_certs = .*: it is a directory; expected"):
        config.validate()
