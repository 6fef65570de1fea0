"""Configurations under wrong use: wrong values and keys, limits, what is shared."""

from __future__ import annotations

import copy
import itertools
import types
from collections.abc import Callable
from typing import Any

import pytest

from pywebtransport import WebTransportClient
from pywebtransport._core.settings import client_tls, h3_options, quic_settings, server_tls
from pywebtransport._quic import QuicEndpoint
from pywebtransport.config import ClientConfig, ServerConfig
from pywebtransport.config._fields import Number
from pywebtransport.exceptions import ConfigurationError
from pywebtransport.server import WebTransportServer
from tests.support.certificates import Certificates
from tests.support.configs import BOTH, COMPANIONS, HASH, Config, allow, both

# Wrong for nearly every field; a value that a field accepts is no mistake there.
WRONG: tuple[Any, ...] = (
    None,
    True,
    "",
    "nonsense \x00",
    "x" * 10_000,
    b"bytes",
    float("nan"),
    float("-inf"),
    -1,
    -0.5,
    10**400,
    10**5000,
    1e300,
    [None],
    [[]],
    [10**5000],
    {"a": None},
    {1: 2},
    object(),
    iter([1]),
    itertools.count(),  # never ends
    type,
)


def refusal(call: Callable[[], object]) -> ConfigurationError | None:
    """What a call raises, if it does."""
    try:
        call()
    except ConfigurationError as error:
        return error
    return None


@pytest.mark.parametrize("value", WRONG, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize(
    ("cls", "name"),
    [pytest.param(cls, name, id=f"{cls.__name__}-{name}") for cls in BOTH for name in cls._rules],
)
def test_wrong_value_is_refused_with_field_value_and_range(
    cls: Config, name: str, value: Any
) -> None:
    pair = {"certfile": "c.pem", "keyfile": "k.pem"}
    beside = pair if name in pair else COMPANIONS.get(name, {})
    config = cls(**beside)
    changed = copy.copy(config)
    object.__setattr__(changed, name, value)
    errors = [
        refusal(lambda: cls(**{**beside, name: value})),
        refusal(lambda: config.update(**{name: value})),
        refusal(lambda: config.merge({name: value})),
        refusal(lambda: cls.from_dict({**beside, name: value})),
        refusal(lambda: changed._check_fields() or changed._check_together()),
    ]
    refused = [error is not None for error in errors]
    assert refused in ([True] * 5, [False] * 5)
    for error in errors:
        if error is None:
            continue
        text = str(error)
        assert len(text) < 1000
        assert error.config_key is not None
        assert text.startswith(f"{error.config_key} = ")
        # Else the field is right by itself, and does not fit to another.
        if error.config_key == name and name not in COMPANIONS:
            assert cls._rules[name].expected in text


@pytest.mark.parametrize("value", [None, 3, "x", [("max_connections", 3)], object()])
@both
def test_what_is_no_dictionary_is_refused(cls: Config, value: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        cls.from_dict(value)
    assert caught.value.config_key == "config_dict"
    with pytest.raises(ConfigurationError, match="cannot be merged"):
        cls().merge(value)


@pytest.mark.parametrize("key", [3, None, ("a",), "x" * 100_000, "bind\x00"])
@both
def test_keys_that_are_no_fields_are_refused(cls: Config, key: Any) -> None:
    for call in (cls.from_dict, cls().merge):
        with pytest.raises(ConfigurationError, match="has no field"):
            call({key: 1})


@both
def test_any_mapping_will_do(cls: Config) -> None:
    fields = types.MappingProxyType({"max_connections": 3})
    assert cls.from_dict(fields).max_connections == 3  # type: ignore[arg-type]
    assert cls().merge(fields).max_connections == 3  # type: ignore[arg-type]


@both
def test_nothing_mutable_is_shared(cls: Config) -> None:
    values: dict[str, Any] = {"alpn_protocols": ["h3"], "application_protocols": ["a"]}
    if cls is ClientConfig:
        values |= {"headers": {"a": "b"}, "server_certificate_hashes": [HASH]}
    else:
        values |= {
            "allowed_origins": ["*"],
            "middleware": [allow],
            "sni_certificates": {"a.test": ["c", "k"]},
        }
    config = cls(**copy.deepcopy(values))
    others = [config.copy(), config.update(), cls().merge(config), cls.from_dict(config.to_dict())]
    exported = config.to_dict()
    for name, value in values.items():
        for other in others:
            assert getattr(other, name) == getattr(config, name)
            assert getattr(other, name) is not getattr(config, name)
        assert exported[name] is not getattr(config, name)
        getattr(config, name).clear()
        assert all(len(getattr(other, name)) == len(value) for other in others)


def limits(cls: Config) -> list[tuple[str, Any]]:
    """The smallest and the largest value of each number."""
    found = []
    for name, rule in cls._rules.items():
        if isinstance(rule, Number):
            found += [(name, 1e-10 if rule.above else rule.low), (name, rule.high)]
    return found


# What a value at the end of its range needs beside it.
BESIDE = {"retry_delay": {"max_retry_delay": 1e9}, "max_retry_delay": {"retry_delay": 1e-10}}


@pytest.mark.parametrize(
    ("cls", "name", "value"),
    [
        pytest.param(cls, name, value, id=f"{cls.__name__}-{name}-{value:g}")
        for cls in BOTH
        for name, value in limits(cls)
    ],
)
def test_what_is_accepted_is_accepted_by_the_layers_below(
    cls: Config, name: str, value: Any, certs: Certificates
) -> None:
    """HTTP/3 and the engine have ranges of their own."""
    config = cls(**{name: value, **BESIDE.get(name, {}), **certs.server.files})
    h3_options(config)
    tls = server_tls(config) if isinstance(config, ServerConfig) else client_tls(config)
    endpoint = QuicEndpoint(
        is_server=cls is ServerConfig,
        settings=quic_settings(config),
        tls=tls,
        accept=(lambda quic: None) if cls is ServerConfig else None,
        schedule_flush=lambda: None,
        on_error=lambda error: None,
    )
    endpoint.close()


@both
def test_what_a_caller_changes_afterwards_changes_nothing(cls: Config) -> None:
    """Else it would hold for some things, and not for those that were made before."""
    config = cls()
    owner = WebTransportClient(config) if cls is ClientConfig else WebTransportServer(config)  # type: ignore[arg-type]
    config.max_connections = 3
    config.alpn_protocols.clear()
    assert owner.config == cls()


def test_verify_ssl_is_a_switch() -> None:
    with pytest.raises(ConfigurationError, match="verify_ssl"):
        ClientConfig.create_for_development(verify_ssl="no")  # type: ignore[arg-type]
