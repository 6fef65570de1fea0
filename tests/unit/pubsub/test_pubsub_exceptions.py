"""Errors of publish/subscribe."""

import copy
import pickle

import pytest

from pywebtransport.exceptions import get_error_category
from pywebtransport.pubsub import (
    InvalidTopicError,
    PubSubError,
    PubSubErrorCode,
    SlowSubscriberError,
    SubscriptionLimitError,
    TopicForbiddenError,
)
from pywebtransport.pubsub._exceptions import pubsub_error
from pywebtransport.rpc import MethodNotFoundError, RpcError, RpcErrorCode

CLASSES = {
    InvalidTopicError: PubSubErrorCode.INVALID_TOPIC,
    PubSubError: PubSubErrorCode.UNAVAILABLE,
    SlowSubscriberError: PubSubErrorCode.TOO_SLOW,
    SubscriptionLimitError: PubSubErrorCode.LIMIT_REACHED,
    TopicForbiddenError: PubSubErrorCode.FORBIDDEN,
}


@pytest.mark.parametrize(("kind", "code"), CLASSES.items())
def test_errors_have_codes_and_survive_pickling(
    kind: type[PubSubError], code: PubSubErrorCode
) -> None:
    error = kind("m", topic="a.b", data=[1], remote=True, details={"k": 1})
    assert error.error_code == code
    assert error.to_dict()["topic"] == "a.b"
    assert get_error_category(exception=error) == "pubsub"
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(twin) is kind
        assert vars(twin) == vars(error)


@pytest.mark.parametrize(("kind", "code"), CLASSES.items())
def test_a_broker_s_refusal_gets_its_type_back(
    kind: type[PubSubError], code: PubSubErrorCode
) -> None:
    answer = RpcError("m", error_code=int(code), data=1, method="pubsub.publish", remote=True)
    error = pubsub_error(answer, "a.b")
    assert type(error) is kind
    assert isinstance(error, PubSubError)
    assert (error.message, error.topic, error.data, error.remote) == ("m", "a.b", 1, True)


def test_codes_without_a_class_of_their_own() -> None:
    answer = RpcError("m", error_code=PubSubErrorCode.TOO_LARGE, remote=True)
    error = pubsub_error(answer, "a")
    assert type(error) is PubSubError
    assert error.error_code == PubSubErrorCode.TOO_LARGE


@pytest.mark.parametrize(
    "error",
    [
        MethodNotFoundError("no broker there", remote=True),
        RpcError("m", error_code=RpcErrorCode.INTERNAL_ERROR, remote=True),
        RpcError("m", error_code=1, remote=False),
        RpcError("m", error_code=4242, remote=True),
    ],
)
def test_errors_of_the_call_stay_what_they_are(error: RpcError) -> None:
    assert pubsub_error(error, "a") is error
