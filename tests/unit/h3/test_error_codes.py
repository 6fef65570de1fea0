"""Stream error codes: the vectors of draft-16 section 8.1 and the codes in between."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pywebtransport.exceptions import ConfigurationError
from pywebtransport.h3._error_codes import code_from_wire, code_to_wire

VECTORS = [
    (0, 0x52E4A40FA8DB),
    (1, 0x52E4A40FA8DC),
    (29, 0x52E4A40FA8F8),
    (30, 0x52E4A40FA8FA),
    (59, 0x52E4A40FA917),
    (60, 0x52E4A40FA919),
    (255, 0x52E4A40FA9E2),
    (256, 0x52E4A40FA9E3),
    (1000, 0x52E4A40FACE4),
    (65535, 0x52E4A410B162),
    (2**31 - 1, 0x52E52853ED1E),
    (2**32 - 1, 0x52E5AC983162),
]


@pytest.mark.parametrize(("code", "wire"), VECTORS)
def test_vectors_both_ways(code: int, wire: int) -> None:
    assert code_to_wire(code) == wire
    assert code_from_wire(wire) == code


@pytest.mark.parametrize(
    "wire",
    [
        None,
        0,
        0x100,
        0x10C,
        0x52E4A40FA8DA,  # below the range
        0x52E4A40FA8F9,  # the first reserved code
        0x52E4A40FA8F9 + 0x1F,
        0x52E5AC983163,  # above the range
        2**62 - 1,
    ],
)
def test_codes_that_stand_for_none(wire: int | None) -> None:
    assert code_from_wire(wire) is None


@given(st.integers(0, 2**32 - 1))
def test_round_trip_skips_reserved_codes(code: int) -> None:
    wire = code_to_wire(code)
    assert (wire - 0x21) % 0x1F != 0
    assert code_from_wire(wire) == code


@given(st.integers(0x52E4A40FA8DB, 0x52E5AC983162))
def test_every_unreserved_code_maps_back(wire: int) -> None:
    code = code_from_wire(wire)
    if (wire - 0x21) % 0x1F == 0:
        assert code is None
    else:
        assert code is not None
        assert code_to_wire(code) == wire


@pytest.mark.parametrize(
    "code",
    [-1, 2**32, True, 1.0, "1", None, b"\x01", pytest.param(10**5000, id="5000 digits")],
)
def test_codes_out_of_range_are_refused(code: Any) -> None:
    with pytest.raises(ConfigurationError, match="0 to 4294967295"):
        code_to_wire(code)
