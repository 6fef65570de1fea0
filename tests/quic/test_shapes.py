"""The compiled classes have the shapes by which the floors above know a transport."""

from __future__ import annotations

from typing import Any

import pytest

from pywebtransport import _transport as shapes
from pywebtransport._quic import CloseInfo, QuicConnection, QuicGroup, QuicStream

PAIRS = [
    (CloseInfo, shapes.CloseInfo),
    (QuicConnection, shapes.Transport),
    (QuicStream, shapes.Stream),
    (QuicGroup, shapes.Group),
]


def members(shape: Any) -> set[str]:
    """Attributes, properties and methods that a protocol asks for."""
    named = {*vars(shape), *vars(shape).get("__annotations__", ())}
    return {name for name in named if not name.startswith("_")}


@pytest.mark.parametrize(("compiled", "shape"), PAIRS, ids=lambda cls: cls.__name__)
def test_the_binding_has_the_shape_of_a_transport(compiled: Any, shape: Any) -> None:
    assert len(members(shape)) > 5
    assert sorted(name for name in members(shape) if not hasattr(compiled, name)) == []
