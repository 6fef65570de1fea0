"""What the tests of configurations share."""

from __future__ import annotations

import ast
import inspect
from typing import Any

import pytest

from pywebtransport.config import ClientConfig, ServerConfig

Config = type[ClientConfig] | type[ServerConfig]
BOTH: tuple[Config, ...] = (ClientConfig, ServerConfig)
both = pytest.mark.parametrize("cls", BOTH)

HASH = bytes(range(32))


async def allow(*, session: object) -> bool:
    return True


# What a field needs beside it to be accepted.
COMPANIONS: dict[str, dict[str, Any]] = {
    "certfile": {"keyfile": "k.pem"},
    "fallback_proxy": {"fallback": "websocket"},
    "keyfile": {"certfile": "c.pem"},
    "require_application_protocol": {"application_protocols": ["chat"]},
    "verify_mode": {"ca_certs": "/ca.pem"},
}


def documented(cls: type) -> dict[str, str]:
    """Fields and the strings that stand under them."""
    body = ast.parse(inspect.getsource(cls)).body[0]
    assert isinstance(body, ast.ClassDef)
    found = {}
    for field, text in zip(body.body, body.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            value = text.value if isinstance(text, ast.Expr) else None
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                found[field.target.id] = value.value
    return found
