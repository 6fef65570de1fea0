"""Constructors of exceptions: made of the declared fields, also in classes of applications."""

import ast
import copy
import inspect
import pickle
from typing import Any

import pytest

from pywebtransport import exceptions
from pywebtransport.exceptions import (
    ClientArgumentError,
    SessionError,
    SessionRejectedError,
    StreamError,
    WebTransportError,
)
from pywebtransport.pubsub import TopicForbiddenError
from pywebtransport.rpc import RpcTimeoutError
from pywebtransport.types import StreamState

COMMON = ["message", "error_code", "reason", "remote", "details"]


class OwnConstructorError(StreamError):
    """Of an application, with a constructor of its own."""

    rooms: list[str] = []  # noqa: RUF012

    def __init__(self, room: str) -> None:
        super().__init__(f"room {room} is full", stream_id=4)
        self.room = room


class SeveralError(SessionError, exceptions.TimeoutError):
    """Of an application, from two of ours."""


class PropertyError(StreamError):
    """Of an application, with an annotation that is no field."""

    places: int


@pytest.mark.parametrize(
    ("cls", "own"),
    [
        (WebTransportError, []),
        (SessionRejectedError, ["target_url", "status_code", "headers"]),
        (ClientArgumentError, ["target_url", "config_key", "config_value"]),
        (RpcTimeoutError, ["timeout_duration", "operation", "method", "data"]),
        (TopicForbiddenError, ["method", "data", "topic"]),
        (PropertyError, ["stream_id", "stream_state"]),
    ],
)
def test_the_signature_shows_every_field(cls: type[WebTransportError], own: list[str]) -> None:
    for function, first in ((cls, []), (cls.__init__, ["self"])):
        parameters = inspect.signature(function).parameters
        assert list(parameters) == [*first, *COMMON, *own]
        keywords = [name for name, each in parameters.items() if each.kind is each.KEYWORD_ONLY]
        assert keywords == [*COMMON[1:], *own]


def test_the_signature_shows_types_and_defaults_of_the_arguments() -> None:
    parameters = inspect.signature(SessionRejectedError).parameters
    assert parameters["status_code"].default == 403
    assert parameters["message"].annotation == "str | None"
    assert parameters["details"].annotation == "dict[str, Any] | None"
    assert parameters["headers"].annotation == "HeadersToSend | None"
    assert inspect.signature(StreamError).parameters["message"].default is inspect.Parameter.empty
    assert inspect.signature(exceptions.StreamLimitError).parameters["operation"].default == (
        "open stream"
    )


def test_a_constructor_of_an_application_stands() -> None:
    error = OwnConstructorError("blue")
    assert (error.message, error.stream_id, error.room) == ("room blue is full", 4, "blue")
    assert list(inspect.signature(OwnConstructorError).parameters) == ["room"]
    assert "rooms" not in error.to_dict()
    with pytest.raises(TypeError, match="stream_id"):
        OwnConstructorError("blue", stream_id=4)  # type: ignore[call-arg]


def test_a_class_from_two_has_the_fields_of_both() -> None:
    error = SeveralError("m", session_id="4", timeout_duration=1.5)  # type: ignore[call-arg]
    assert (error.session_id, error.timeout_duration, error.operation) == ("4", 1.5, None)
    assert {"session_id": "4", "timeout_duration": 1.5}.items() <= error.to_dict().items()
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert vars(again) == vars(error)


def test_an_annotation_of_an_application_is_no_field() -> None:
    error = PropertyError("m", stream_state=StreamState.OPEN)
    assert repr(error) == f"PropertyError('m', stream_state={StreamState.OPEN!r})"
    with pytest.raises(TypeError, match="places"):
        PropertyError("m", places=5)  # type: ignore[call-arg]


def test_a_class_of_an_application_names_its_category_or_has_that_of_its_base() -> None:
    class RoomError(SessionError, category="room"):
        pass

    class FullRoomError(RoomError):
        pass

    class DoorError(SessionError):
        category = "door"

    made = [kind("m") for kind in (RoomError, FullRoomError, DoorError, SessionError)]
    assert [exceptions.get_error_category(error) for error in made] == [
        *("room", "room", "door", "session")
    ]
    assert made[1].to_dict()["category"] == "room"


@pytest.mark.parametrize(
    ("arguments", "keywords", "words"),
    [
        ((), {}, "missing a required argument: 'message'"),
        ((), {"stream_id": 4}, "missing a required argument: 'message'"),
        (("m",), {"colour": 2}, "unexpected keyword argument 'colour'"),
        (("m", 4), {}, "too many positional arguments"),
        (("m",), {"message": "n"}, "multiple values for argument 'message'"),
    ],
)
def test_wrong_arguments_are_refused_as_python_does(
    arguments: tuple[Any, ...], keywords: dict[str, Any], words: str
) -> None:
    with pytest.raises(TypeError, match=words):
        StreamError(*arguments, **keywords)


@pytest.mark.parametrize(
    "cls",
    [
        exceptions.DatagramTooLargeError,
        exceptions.SessionClosedError,
        SessionRejectedError,
        exceptions.StreamResetError,
        exceptions.StreamStoppedError,
    ],
)
def test_a_message_of_none_is_the_default(cls: Any) -> None:
    assert cls(None).message == cls().message != ""
    assert cls("own words").message == "own words"


def test_every_field_says_what_it_means() -> None:
    """In a comment that documentation tools read; overridden defaults need none."""
    source = inspect.getsource(exceptions)
    lines = source.splitlines()
    named = {"message", "category"}  # the docstring of the base class tells
    for node in ast.parse(source).body:
        for item in node.body if isinstance(node, ast.ClassDef) else ():
            if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
                name = item.target.id
                comment = lines[item.lineno - 1].partition("#: ")[2]
                if lines[item.lineno - 2].strip().startswith("#: "):
                    comment = lines[item.lineno - 2].strip()
                if not name.startswith("_") and not comment:
                    assert name in named, f"{node.name}.{name}"
                named.add(name)
    assert {"bind_address", "headers", "timeout_duration"} < named
