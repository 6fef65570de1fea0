"""Which tickets and tokens of earlier connections a new one may use."""

from __future__ import annotations

from pywebtransport.client._credentials import Credentials, Offer

HERE, THERE = ("a.example", 443), ("b.example", 443)


def filled(*tickets: bytes, tokens: tuple[bytes, ...] = ()) -> Credentials:
    credentials = Credentials()
    for ticket in tickets:
        credentials.add(HERE, ticket, None)
    for token in tokens:
        credentials.add(HERE, None, token)
    return credentials


def test_nothing_is_known_of_a_new_server() -> None:
    credentials = filled(b"t", tokens=(b"a",))
    assert credentials.take(THERE) == Offer(None, None)
    assert len(credentials) == 1


def test_each_ticket_is_used_once_and_the_last_one_again() -> None:
    credentials = filled(b"1", b"2", b"3")
    taken = [credentials.take(HERE).ticket for _ in range(5)]
    assert taken == [b"3", b"2", b"1", b"1", b"1"]
    credentials.add(HERE, b"4", None)
    assert [credentials.take(HERE).ticket for _ in range(3)] == [b"4", b"1", b"1"]


def test_each_token_is_used_once() -> None:
    credentials = filled(b"t", tokens=(b"a", b"b"))
    taken = [credentials.take(HERE).token for _ in range(3)]
    assert taken == [b"b", b"a", None]
    # The arrival of a ticket brings no token back.
    credentials.add(HERE, b"u", None)
    assert credentials.take(HERE) == Offer(b"u", None, (b"t", b"u"))


def test_only_the_newest_are_kept() -> None:
    names = [b"%d" % number for number in range(10)]
    credentials = filled(*names, tokens=tuple(names))
    offers = [credentials.take(HERE) for _ in range(4)]
    assert [offer.ticket for offer in offers] == names[:5:-1]
    assert [offer.token for offer in offers] == names[:5:-1]
    assert credentials.take(HERE) == Offer(names[6], None, (names[6],))


def test_a_ticket_that_was_refused_goes_with_those_of_its_time() -> None:
    """A server that restarted with other keys: what it sends now is good."""
    credentials = filled(b"1", b"2", b"3")
    first, second = credentials.take(HERE), credentials.take(HERE)
    credentials.add(HERE, b"new", None)
    credentials.refused(HERE, first)
    assert credentials.take(HERE).ticket == b"new"
    credentials.refused(HERE, second)
    assert credentials.take(HERE).ticket == b"new"


def test_a_full_handshake_without_a_ticket_refuses_none() -> None:
    credentials = Credentials()
    offer = credentials.take(HERE)
    credentials.add(HERE, b"1", None)
    credentials.refused(HERE, offer)
    assert credentials.take(HERE).ticket == b"1"


def test_servers_of_which_nothing_is_left_are_forgotten() -> None:
    credentials = filled(tokens=(b"a",))
    assert credentials.take(HERE).token == b"a"
    assert len(credentials) == 0
    credentials = filled(b"1")
    credentials.refused(HERE, credentials.take(HERE))
    assert len(credentials) == 0


def test_the_number_of_servers_is_limited() -> None:
    credentials = Credentials()
    for number in range(300):
        credentials.add((f"{number}.example", 443), b"t", None)
        credentials.add(("0.example", 443), b"t", None)  # it is in use
    assert len(credentials) == 256
    assert credentials.take(("0.example", 443)).ticket == b"t"
    assert credentials.take(("1.example", 443)).ticket is None
    assert credentials.take(("299.example", 443)).ticket == b"t"
