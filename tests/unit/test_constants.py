"""Error codes and the shared vocabulary."""

import pytest

from pywebtransport import constants, types
from pywebtransport.constants import ErrorCodes
from pywebtransport.types import EventType, SessionCloseInfo

# From the registries: RFC 9000, 9114, 9204, 9297 and the WebTransport draft.
REGISTERED = {
    "NO_VIABLE_PATH": 0x10,
    "H3_DATAGRAM_ERROR": 0x33,
    "H3_NO_ERROR": 0x100,
    "H3_VERSION_FALLBACK": 0x110,
    "QPACK_DECOMPRESSION_FAILED": 0x200,
    "QPACK_DECODER_STREAM_ERROR": 0x202,
    "WT_FLOW_CONTROL_ERROR": 0x045D4487,
    "WT_ALPN_ERROR": 0x0817B3DD,
    "WT_SESSION_GONE": 0x170D7B68,
    "WT_REQUIREMENTS_NOT_MET": 0x212C0D48,
    "WT_BUFFERED_STREAM_REJECTED": 0x3994BD84,
    "WT_APPLICATION_ERROR_FIRST": 0x52E4A40FA8DB,
    "WT_APPLICATION_ERROR_LAST": 0x52E5AC983162,
    "APP_SERVICE_UNAVAILABLE": 4101,
}


@pytest.mark.parametrize(("name", "value"), REGISTERED.items())
def test_error_code_has_its_registered_value(name: str, value: int) -> None:
    assert ErrorCodes[name] == value


def test_error_codes_are_different_and_fit_a_varint() -> None:
    values = [member.value for member in ErrorCodes.__members__.values()]
    assert len(values) == len(set(values))
    assert all(0 <= value <= constants.MAX_VARINT for value in values)


def test_application_code_range_holds_every_32_bit_code() -> None:
    """The range has one skipped code after each 30 (h = first + n + n // 30)."""
    last = constants.MAX_APPLICATION_CODE
    span = ErrorCodes.WT_APPLICATION_ERROR_LAST - ErrorCodes.WT_APPLICATION_ERROR_FIRST
    assert span == last + last // 30


def test_event_types_are_found_by_their_names() -> None:
    table = {member: member.value for member in EventType}
    assert all(table[value] == value for value in map(str, EventType))  # type: ignore[index]


def test_session_close_info_is_a_value() -> None:
    info = SessionCloseInfo(code=1, reason="bye", remote=True)
    assert info == SessionCloseInfo(1, "bye", True)
    with pytest.raises(AttributeError):
        info.code = 2  # type: ignore[misc]


def test_structural_protocols() -> None:
    class Reverse:
        def serialize(self, *, obj: object) -> bytes:
            return str(obj)[::-1].encode()

        def deserialize(self, *, data: bytes, obj_type: object = None) -> str:
            return data.decode()[::-1]

    assert isinstance(Reverse(), types.Serializer)
    assert not isinstance(object(), types.Serializer)


@pytest.mark.parametrize("name", types.__all__)
def test_every_exported_type_exists(name: str) -> None:
    assert getattr(types, name) is not None
