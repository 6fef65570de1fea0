"""What counts as a request, whatever serializer made it."""

from typing import Any

import pytest

from pywebtransport.rpc import RpcError, RpcErrorCode
from pywebtransport.rpc._messages import (
    MAX_METADATA,
    REGISTRY,
    Notification,
    Request,
    Result,
    check_method,
    check_request,
)


@pytest.mark.parametrize(
    "request_",
    [
        Request("f"),
        Request("f", [1], {"a": 1}, {"trace": "1"}, 0.5),
        Request("f", timeout=3),
        Notification("rooms.join"),
    ],
)
def test_requests_pass(request_: Request) -> None:
    assert check_request(request_) is request_


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (None, "expected a request, got NoneType"),
        (Result(1), "expected a request, got Result"),
        (Request(""), "method must be 1 to 256"),
        (Request("x" * 257), "method must be 1 to 256"),
        (Request("a\nb"), "method must be"),
        (Request(5), "method must be"),  # type: ignore[arg-type]
        (Request("f", {"a": 1}), "params must be a list, got dict"),  # type: ignore[arg-type]
        (Request("f", named=[1]), "named must be"),  # type: ignore[arg-type]
        (Request("f", named={1: 1}), "named must be"),  # type: ignore[dict-item]
        (Request("f", metadata={"a": 1}), "metadata must be"),  # type: ignore[dict-item]
        (Request("f", metadata="abc"), "metadata must be"),  # type: ignore[arg-type]
        (Request("f", metadata={str(i): "" for i in range(MAX_METADATA + 1)}), "at most 64"),
        (Request("f", timeout=0), "timeout must be seconds > 0"),
        (Request("f", timeout=-1.0), "timeout must be"),
        (Request("f", timeout=float("nan")), "timeout must be"),
        (Request("f", timeout=float("inf")), "timeout must be"),
        (Request("f", timeout=True), "timeout must be"),
        (Request("f", timeout="5"), "timeout must be"),  # type: ignore[arg-type]
    ],
)
def test_what_is_no_request(request_: Any, message: str) -> None:
    with pytest.raises(RpcError, match=message) as caught:
        check_request(request_)
    assert caught.value.error_code == RpcErrorCode.INVALID_REQUEST


def test_error_messages_do_not_repeat_a_long_value() -> None:
    with pytest.raises(RpcError) as caught:
        check_method("x" * 100_000)
    assert len(caught.value.message) < 200


def test_type_ids_are_fixed() -> None:
    """They are the protocol: other programs speak it."""
    names = {number: kind.__name__ for number, kind in REGISTRY.items()}
    first_version = {1: "Request", 2: "Result", 3: "Failure", 4: "Notification"}
    assert names == first_version | {5: "StreamRequest", 6: "Item", 7: "End"}
