"""Errors of remote calls: their tree, codes, messages, and that they survive pickling."""

import builtins
import copy
import pickle

import pytest

from pywebtransport.exceptions import TimeoutError, WebTransportError, get_error_category
from pywebtransport.rpc import (
    InvalidParamsError,
    MethodNotFoundError,
    RpcCancelledError,
    RpcError,
    RpcErrorCode,
    RpcTimeoutError,
)
from pywebtransport.rpc._exceptions import error_from_code

CLASSES = [RpcError, InvalidParamsError, MethodNotFoundError, RpcCancelledError, RpcTimeoutError]


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_is_of_the_library_and_has_a_code(kind: type[RpcError]) -> None:
    error = kind("what happened")
    assert isinstance(error, RpcError)
    assert isinstance(error, WebTransportError)
    assert error.error_code == kind.default_code
    assert error.remote is None
    assert str(error) == f"what happened (code {int(kind.default_code)})"


@pytest.mark.parametrize("kind", CLASSES)
def test_errors_survive_pickling_and_copying(kind: type[RpcError]) -> None:
    error = kind("m", error_code=7, data={"a": [1]}, method="add", remote=True, details={"k": 1})
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(twin) is kind
        assert vars(twin) == vars(error)
        assert twin.to_dict() == error.to_dict()
        assert repr(twin) == repr(error)


def test_application_errors_carry_code_and_data() -> None:
    error = RpcError("no such room", error_code=404, data={"room": "x"}, method="join")
    assert str(error) == "join: no such room (code 404)"
    assert error.to_dict()["data"] == {"room": "x"}
    assert error.to_dict()["method"] == "join"
    assert get_error_category(exception=error) == "rpc"


def test_timeout_is_a_timeout_everywhere() -> None:
    error = RpcTimeoutError("late", timeout_duration=2.5)
    assert isinstance(error, TimeoutError)
    assert isinstance(error, builtins.TimeoutError)
    assert (error.timeout_duration, error.operation) == (2.5, "call")
    assert get_error_category(exception=error) == "timeout"


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (RpcErrorCode.METHOD_NOT_FOUND, MethodNotFoundError),
        (RpcErrorCode.INVALID_PARAMS, InvalidParamsError),
        (RpcErrorCode.TIMEOUT, RpcTimeoutError),
        (RpcErrorCode.CANCELLED, RpcCancelledError),
        (RpcErrorCode.INTERNAL_ERROR, RpcError),
        (RpcErrorCode.INVALID_REQUEST, RpcError),
        (404, RpcError),
        (-1, RpcError),
    ],
)
def test_a_failure_becomes_the_error_of_its_code(code: int, kind: type[RpcError]) -> None:
    error = error_from_code(code, "m", data=[1], method="f")
    assert type(error) is kind
    assert (error.error_code, error.message, error.data) == (code, "m", [1])
    assert (error.method, error.remote) == ("f", True)
