"""Several tries failed: the error of the one that got furthest, retriable only if all are."""

import copy
import errno
import itertools
import json
import pickle

import pytest

from pywebtransport import exceptions as errors
from pywebtransport.exceptions import (
    CertificateHashError,
    ClientError,
    ConfigurationError,
    HandshakeError,
    SessionRejectedError,
    UnreachableError,
    WebTransportError,
    is_retriable_error,
)
from pywebtransport.utils._attempts import combine_errors, furthest


def unreachable(number: int) -> UnreachableError:
    return UnreachableError("m", details={"errno": number})


def ladder() -> list[BaseException]:
    """From the least that can happen to the furthest."""
    return [
        UnreachableError("no such name", details={"host": "a", "errno": -2}),
        unreachable(errno.ENETUNREACH),
        unreachable(errno.EHOSTUNREACH),
        errors.TimeoutError("silent", operation="handshake"),
        unreachable(errno.ECONNREFUSED),
        UnreachableError("the server refused", error_code=2),
        errors.ConnectionError("closed", error_code=0x100),
        HandshakeError("no common ALPN", error_code=0x178, handshake_stage="tls"),
        CertificateHashError("another certificate"),
        SessionRejectedError(status_code=404),
        ConfigurationError("a wrong argument"),
        ZeroDivisionError("a mistake in the program"),
    ]


def test_the_furthest_is_chosen_in_any_order() -> None:
    steps = ladder()
    for near, far in itertools.combinations(range(len(steps)), 2):
        for order in ([near, far], [far, near], [near, far, near]):
            several = [steps[index] for index in order]
            assert several[furthest(several)] is steps[far]


def test_of_equal_ones_the_first() -> None:
    several = [unreachable(errno.EHOSTDOWN), unreachable(errno.EHOSTUNREACH)]
    assert furthest(several) == 0


def test_one_alone_is_given_back_as_it_is() -> None:
    error = unreachable(errno.ECONNREFUSED)
    assert combine_errors([("a", error)]) is error
    assert error.details == {"errno": errno.ECONNREFUSED}


@pytest.mark.parametrize("far_first", [False, True])
@pytest.mark.parametrize(
    ("other", "retriable"),
    [
        (errors.TimeoutError("silent"), True),
        (unreachable(errno.ENETUNREACH), True),
        (HandshakeError("m"), False),
        (SessionRejectedError(status_code=404), False),
        (SessionRejectedError(status_code=503), True),
    ],
)
def test_retriable_only_if_all_are(
    other: WebTransportError, retriable: bool, far_first: bool
) -> None:
    several = [("[::1]:1", unreachable(errno.ECONNREFUSED)), ("127.0.0.1:1", copy.copy(other))]
    if far_first:
        several.reverse()
    chosen = combine_errors(several)
    assert isinstance(chosen, WebTransportError)
    assert is_retriable_error(chosen) is retriable
    attempts = chosen.details["attempts"]
    assert [attempt["address"] for attempt in attempts] == [name for name, _ in several]
    assert [attempt["type"] for attempt in attempts] == [
        type(error).__name__ for _, error in several
    ]
    assert json.loads(json.dumps(chosen.to_dict())) == chosen.to_dict()
    again = pickle.loads(pickle.dumps(chosen))
    assert is_retriable_error(again) is retriable
    assert again.__notes__ == chosen.__notes__
    assert len(chosen.__notes__) == 1


def test_a_retriable_error_of_a_failure_that_is_none_stays_retriable() -> None:
    """An error that counts its tries in ``details["attempts"]`` is judged by itself."""
    assert is_retriable_error(errors.TimeoutError("m", details={"attempts": 3}))
    assert not is_retriable_error(ClientError("m", details={"attempts": 3}))


@pytest.mark.parametrize(
    ("error", "retriable"),
    [
        (ClientError("m", error_code=0x10B), True),
        (errors.SessionError("m", error_code=0x10B), True),
        # Codes of the application, which may be any.
        (errors.SessionClosedError(code=0x10B), False),
        (errors.StreamResetError(error_code=0x10B), False),
        (ClientError("m", error_code=0x10C), False),
    ],
)
def test_request_that_was_rejected_is_retriable(error: WebTransportError, retriable: bool) -> None:
    assert is_retriable_error(error) is retriable
    assert errors.is_request_rejected(error) is retriable
    assert not errors.is_fatal_error(error)
