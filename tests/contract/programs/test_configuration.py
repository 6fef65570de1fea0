"""Configurations: made, built, merged, checked."""

from __future__ import annotations

import ssl

import pytest

from pywebtransport import Address, ClientConfig, ConfigurationError, ServerConfig
from pywebtransport.config import ConfigBuilder
from tests.support.certificates import Certificates


def test_client_configurations(certs: Certificates) -> None:
    config = ClientConfig.create(connect_timeout=5.0, max_retries=2)
    assert config == ClientConfig(connect_timeout=5.0, max_retries=2)
    assert ClientConfig.from_dict(config_dict=config.to_dict()) == config
    assert config.copy() == config
    assert config.copy() is not config
    assert config.update(debug=True).debug
    assert not config.debug
    assert config.merge(other={"user_agent": "me"}).user_agent == "me"
    assert config.merge(other=ClientConfig(max_retries=9)).max_retries == 9
    config.validate()
    assert config.alpn_protocols == ["h3"]
    assert ClientConfig.create_for_development().verify_mode is ssl.CERT_NONE
    strict = ClientConfig.create_for_production(ca_certs=certs.authority.certfile)
    assert strict.verify_mode in (None, ssl.CERT_REQUIRED)
    with pytest.raises(ConfigurationError) as caught:
        ClientConfig.create(connect_timeout=-1.0)
    assert caught.value.config_key == "connect_timeout"
    assert caught.value.config_value == -1.0
    with pytest.raises(ConfigurationError):
        ClientConfig.from_dict(config_dict={"no_such_field": 1})


def test_server_configurations(certs: Certificates) -> None:
    certfile, keyfile = certs.server.files["certfile"], certs.server.files["keyfile"]
    config = ServerConfig.create(certfile=certfile, keyfile=keyfile, bind_host="::", bind_port=1)
    address: Address = config.get_bind_address()
    assert address == ("::", 1)
    assert ServerConfig.from_dict(config_dict=config.to_dict()) == config
    assert config.copy() == config
    assert config.update(max_sessions=3).max_sessions == 3
    assert config.merge(other={"access_log": False}).access_log is False
    config.validate()
    development = ServerConfig.create_for_development(
        host="localhost", port=8443, certfile=certfile, keyfile=keyfile
    )
    assert development.get_bind_address() == ("localhost", 8443)
    production = ServerConfig.create_for_production(
        host="0.0.0.0", port=443, certfile=certfile, keyfile=keyfile
    )
    assert not production.debug
    with pytest.raises(ConfigurationError) as caught:
        config.update(bind_port=70000)
    assert caught.value.config_key == "bind_port"


def test_builder(certs: Certificates) -> None:
    client = (
        ConfigBuilder(config_type="client")
        .timeout(connect=3.0, read=4.0, write=5.0)
        .security(ca_certs=certs.authority.certfile, verify_mode=ssl.CERT_REQUIRED)
        .flow_control(window_size=65536, window_auto_scale=True, initial_max_streams_bidi=7)
        .performance(max_streams=50, buffer_size=32768, max_connections=9)
        .debug(enabled=True, log_level="DEBUG")
        .build()
    )
    assert isinstance(client, ClientConfig)
    assert (client.connect_timeout, client.read_timeout, client.write_timeout) == (3.0, 4.0, 5.0)
    assert (client.max_streams, client.max_connections, client.debug) == (50, 9, True)
    assert client.initial_max_streams_bidi == 7
    server = (
        ConfigBuilder(config_type="server").bind(host="::1", port=4433).timeout(read=1.0)
    ).security(certfile=certs.server.files["certfile"], keyfile=certs.server.files["keyfile"])
    built = server.build()
    assert isinstance(built, ServerConfig)
    assert built.get_bind_address() == ("::1", 4433)
