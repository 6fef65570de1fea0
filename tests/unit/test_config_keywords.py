"""The keyword arguments that type checkers know are the fields of the configurations."""

import dataclasses
from typing import get_type_hints

import pytest

from pywebtransport.config import (
    BaseConfig,
    ClientConfig,
    ClientFields,
    CommonFields,
    ServerConfig,
    ServerFields,
)

# What a field holds, and what it is given as: paths, sequences, and some of their own.
WIDER = {
    "server_certificate_hashes": "Sequence[CertificateHash]",
    "shared_secret": "bytes | StrPath | Sequence[bytes | StrPath] | None",
    "sni_certificates": "Mapping[str, tuple[StrPath, StrPath]]",
    "headers": "Mapping[str, str | Sequence[str]]",
}
PATHS = {"ca_certs", "certfile", "keyfile", "keylog_file", "qlog_dir"}


def accepted(field: dataclasses.Field[object]) -> str:
    """The type of the keyword for a field."""
    if field.name in WIDER:
        return WIDER[field.name]
    if field.name in PATHS:
        return "StrPath | None"
    held = str(field.type).replace("list[", "Sequence[").replace("dict[", "Mapping[")
    return held.replace("ssl.VerifyMode", "ssl.VerifyMode | str")


@pytest.mark.parametrize(
    ("config", "keywords"),
    [(BaseConfig, CommonFields), (ClientConfig, ClientFields), (ServerConfig, ServerFields)],
    ids=["common", "client", "server"],
)
def test_keywords_are_the_fields(config: type[BaseConfig], keywords: type) -> None:
    given = {name: kind.__forward_arg__ for name, kind in keywords.__annotations__.items()}
    assert given == {field.name: accepted(field) for field in dataclasses.fields(config)}
    assert get_type_hints(keywords).keys() == given.keys()
    assert not keywords.__required_keys__
