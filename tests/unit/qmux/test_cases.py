"""What a peer must not do, by number, and what it may do although it looks odd.

The numbers are those of the table of strict reactions in the notes about QMux; 58 to 60 concern
the upgrade and the frames of WebSocket.
"""

from collections.abc import Callable

import pytest

from pywebtransport._qmux._limits import QMuxLimits
from tests.unit.qmux.bed import PARAMETERS_01, PARAMETERS_02, End

HEAD = "ff5153300d0a0d0a"
LIMITS = QMuxLimits(
    data_window=1000,
    max_data_window=1000,
    stream_window=100,
    max_stream_window=100,
    max_streams_bidi=20,
    max_streams_uni=20,
    max_datagram_frame_size=50,
    max_idle_items=50,
)

VIOLATION = 0x0A
ENCODING = 0x07
STATE = 0x05
FLOW = 0x03
STREAMS = 0x04
SIZE = 0x06
PARAMETER = 0x08


def parameters(body: str) -> str:
    """The frame with this body."""
    size = len(body) // 2
    return HEAD + (f"{size:02x}" if size < 64 else f"{size | 0x4000:04x}") + body


def server(**others: QMuxLimits) -> End:
    end = End(limits=others.get("limits", LIMITS))
    end.link.take()
    return end


def greeted(parameters: bytes = PARAMETERS_02, *, draft: int = 2) -> End:
    end = End(limits=LIMITS, draft=draft).greet(parameters)
    end.sent()
    return end


def check_closed(end: End, sent: bytes, code: int, websocket: int = 1002) -> None:
    """The last frame that was sent is CONNECTION_CLOSE with this code, and everybody knows."""
    info = end.handler.closed
    assert info is not None
    assert (info.kind, info.code, info.remote) == ("transport", code, False)
    head = bytes((0x1C, code))
    assert sent.startswith(head), sent.hex()
    reason = info.reason.encode()
    assert sent.endswith(bytes((len(reason),)) + reason)
    assert len(sent) <= 2 + 8 + 2 + len(reason)
    assert end.link.closed == websocket
    assert end.connection.is_closed
    assert end.errors == []


# ------------------------------------------------------------------ the first frame

FIRST = {
    "1": ("0e00000568656c6c6f", VIOLATION),
    "1-ping": ("f48c67529ef8c7bd00", VIOLATION),
    "1-close": ("1d0000", VIOLATION),
    "1-cut-type": ("ff5153", VIOLATION),
    "27": ("33" + PARAMETERS_02.hex(), VIOLATION),
    "2": ("00" + PARAMETERS_02.hex(), VIOLATION),
    "4": (HEAD + "37010480007530", ENCODING),
    "4-length-cut": (HEAD + "40", ENCODING),
    "4-no-length": (HEAD, ENCODING),
    **{
        f"5-{identifier:02x}": (parameters(f"{identifier:02x}00"), PARAMETER)
        for identifier in (0x00, 0x02, 0x03, 0x0A, 0x0B, 0x0C, 0x0D, 0x0E, 0x0F, 0x10)
    },
    "5-max-udp-payload": (parameters("03024500"), PARAMETER),
    "6": (parameters("04010a04010a"), PARAMETER),
    "6-unknown": (parameters("3a003a00"), PARAMETER),
    "6-other-encoding": (parameters("04010a4004010a"), PARAMETER),
    "7-empty": (parameters("0400"), PARAMETER),
    "7-trailing": (parameters("04020a00"), PARAMETER),
    "7-cut": (parameters("040140"), PARAMETER),
    "7-past-the-end": (parameters("0405aa"), PARAMETER),
    "7-no-length": (parameters("04"), PARAMETER),
    "8": (parameters("c571c59429cd0845027ffd"), PARAMETER),
    "9": (parameters("1d0100"), PARAMETER),
    "10-bidi": (parameters("0808d000000000000001"), PARAMETER),
    "10-uni": (parameters("0908d000000000000001"), PARAMETER),
}


@pytest.mark.parametrize(("record", "code"), FIRST.values(), ids=FIRST.keys())
def test_case_first_frame(record: str, code: int) -> None:
    end = server()
    check_closed(end, end.feed(record), code)
    assert end.ready == 0


def test_case_1_has_another_code_in_the_older_draft() -> None:
    end = End(limits=LIMITS, draft=1)
    end.link.take()
    check_closed(end, end.feed("0e00000568656c6c6f"), PARAMETER)
    end = greeted(PARAMETERS_01, draft=1)
    check_closed(end, end.feed(PARAMETERS_01), PARAMETER)


FIRST_ALLOWED = {
    "7-longer-encoding": parameters("040480000010"),
    "10-largest": parameters("0808d0000000000000000908d000000000000000"),
    "11": parameters("3a0401020304"),
    "11-empty-frame": HEAD + "00",
    "11-long-length": HEAD + "80000003" + "3a0100",
    "9-in-front": parameters("1d00"),
}


@pytest.mark.parametrize("record", FIRST_ALLOWED.values(), ids=FIRST_ALLOWED.keys())
def test_case_first_frame_allowed(record: str) -> None:
    end = server()
    end.feed(record)
    assert (end.ready, end.handler.closed) == (1, None)


def test_case_9_means_nothing_in_the_older_draft() -> None:
    end = End(limits=LIMITS, draft=1)
    end.feed(parameters("1d0100"))
    assert (end.ready, end.handler.closed) == (1, None)


def test_case_12_no_parameters_in_time() -> None:
    end = server()
    end.clock.advance(LIMITS.handshake_timeout - 0.01)
    assert end.handler.closed is None
    end.clock.advance(0.02)
    assert end.handler.closed is not None
    assert end.handler.closed.kind == "handshake_timeout"
    assert (end.sent(), end.link.closed) == (b"", 1002)
    assert end.clock.waiting == 0


# --------------------------------------------------------- after the parameters

BIDI_5 = "0a000568656c6c6f"  # bidi 0, "hello"
BIDI_FIN = "0b000568656c6c6f"

LATER = {
    "3": (PARAMETERS_02.hex(), VIOLATION),
    "13": ("01", ENCODING),
    "14": ("02" + "00" * 5, ENCODING),
    "14-ecn": ("03" + "00" * 8, ENCODING),
    "15": ("06000100", ENCODING),
    "16": ("070100", ENCODING),
    "17": ("18" + "00" * 20, ENCODING),
    "17-retire": ("1900", ENCODING),
    "18": ("1a" + "00" * 8, ENCODING),
    "18-response": ("1b" + "00" * 8, ENCODING),
    "19": ("1e", ENCODING),
    "20": ("21", ENCODING),
    "20-two-bytes": ("5000", ENCODING),
    "20-eight-bytes": ("ffffffffffffffff", ENCODING),
    "21": ("4010" + "05", VIOLATION),
    "21-stream": ("400a" + "000161", VIOLATION),
    "21-four-bytes": ("80000010" + "05", VIOLATION),
    "24": ("0a000668656c6c6f", ENCODING),
    "24-huge": ("0a00ffffffffffffffff68", ENCODING),
    "25": ("0a40", ENCODING),
    "25-type": ("f48c67", ENCODING),
    "25-stream-id": ("0a", ENCODING),
    "25-stream-id-cut": ("0a80", ENCODING),
    "25-stream-id-of-8": ("08c0", ENCODING),
    "25-offset": ("0c00", ENCODING),
    "25-offset-cut": ("0c0040", ENCODING),
    "25-length": ("0a00", ENCODING),
    "25-length-cut": ("0a00800000", ENCODING),
    "25-max-data": ("1080", ENCODING),
    "25-reset": ("040000", ENCODING),
    "25-ping": ("f48c67529ef8c7bd", ENCODING),
    "25-close": ("1d", ENCODING),
    "29": ("0e00010161", VIOLATION),
    "29-later": (BIDI_5 + "0e00060161", VIOLATION),
    "30": (BIDI_5 + "0e00040161", VIOLATION),
    "30-repeat": (BIDI_5 + BIDI_5, VIOLATION),
    "30-no-offset": (BIDI_5 + "0a000121", VIOLATION),
    "31": ("0e00ffffffffffffffff0161", ENCODING),
    "32": (BIDI_FIN + "0e00050121", SIZE),
    "32-fin-again": (BIDI_FIN + "0f00050121", SIZE),
    "32-repeat-in-bounds": (BIDI_FIN + "0a000568656c6c6f", VIOLATION),
    "33-fin": (BIDI_5 + "0f000200", SIZE),
    "33-reset": (BIDI_5 + "04000902", SIZE),
    "34": (BIDI_FIN + "04000904", SIZE),
    "34-above": (BIDI_FIN + "04000906", SIZE),
    "35": ("0400094065", FLOW),
    "36": ("0a004065" + "61" * 101, FLOW),
    "36-in-parts": ("0a004064" + "61" * 100 + "0e0040640161", FLOW),
    "38": ("0a40500161", STREAMS),
    "38-uni": ("0a40520161", STREAMS),
    "38-reset": ("0440500900", STREAMS),
    "38-stop": ("05405009", STREAMS),
    "38-largest-id": ("0afffffffffffffffc0161", STREAMS),
    "39": ("0a030161", STATE),
    "40": ("0a010161", STATE),
    "40-reset": ("04010900", STATE),
    "40-stop": ("050109", STATE),
    "40-max-stream-data": ("110105", STATE),
    "41": ("04030900", STATE),
    "42": ("050209", STATE),
    "43": ("110205", STATE),
    "44": ("150305", STATE),
    "45": ("12d000000000000001", ENCODING),
    "45-uni": ("13d000000000000001", ENCODING),
    "46": ("16d000000000000001", ENCODING),
    "46-uni": ("17d000000000000001", ENCODING),
    "48": ("f48c67529ef8c7bd05f48c67529ef8c7bd05", VIOLATION),
    "48-lower": ("f48c67529ef8c7bd05f48c67529ef8c7bd04", VIOLATION),
    "49": ("f48c67529ef8c7be00", VIOLATION),
    "50": ("3131" + "00" * 49, VIOLATION),
    "50-no-length": ("30" + "00" * 50, VIOLATION),
    "51": ("3103ddee", ENCODING),
    "53": ("2400090506", ENCODING),
    "54": ("1d004005627965", ENCODING),
    "54-transport": ("1c000004627965", ENCODING),
}


@pytest.mark.parametrize(("record", "code"), LATER.values(), ids=LATER.keys())
def test_case(record: str, code: int) -> None:
    end = greeted()
    check_closed(end, end.feed(record), code)


def test_case_in_the_record_of_the_parameters() -> None:
    end = server()
    check_closed(end, end.feed(PARAMETERS_02.hex() + "01"), ENCODING)
    assert end.clock.waiting == 0


def test_case_37_more_than_the_connection_may_have() -> None:
    end = greeted()
    for number in range(10):
        end.feed(f"0a{4 * number:02x}4064" + "61" * 100)
    assert end.handler.closed is None
    check_closed(end, end.feed("0a280161"), FLOW)


def test_case_35_reset_above_the_limit_of_the_connection() -> None:
    end = greeted()
    for number in range(10):
        end.feed(f"0a{4 * number:02x}4063" + "61" * 99)
    end.feed("0428090a")
    assert end.handler.closed is None
    check_closed(end, end.feed("042c0901"), FLOW)


def test_case_49_an_answer_from_the_future() -> None:
    limits = QMuxLimits(idle_timeout=6, keep_alive=2)
    end = End(limits=limits).greet()
    end.sent()
    end.clock.advance(3)
    assert end.sent().hex() == "f48c67529ef8c7bd00"
    end.feed("f48c67529ef8c7be00")
    assert end.handler.closed is None
    check_closed(end, end.feed("f48c67529ef8c7be01"), VIOLATION)


def test_case_50_datagrams_were_not_announced() -> None:
    end = End(limits=QMuxLimits(max_datagram_frame_size=0)).greet()
    end.sent()
    check_closed(end, end.feed("3102ddee"), VIOLATION)


def test_case_52_reset_stream_at_in_the_older_draft() -> None:
    end = greeted(PARAMETERS_01, draft=1)
    check_closed(end, end.feed(BIDI_5 + "2400090503"), VIOLATION)


def test_case_26_record_too_large() -> None:
    end = greeted()
    end.connection.too_large()
    check_closed(end, end.sent(), ENCODING, 1009)


def test_case_28_text() -> None:
    end = greeted()
    end.connection.text_received()
    check_closed(end, end.sent(), VIOLATION, 1003)


def test_too_large_and_text_after_the_end_do_nothing() -> None:
    end = greeted()
    end.connection.close(5)
    end.connection.too_large()
    end.connection.text_received()
    end.clock.turn()
    assert end.sent().hex() == "1d0500"
    assert end.link.closed == 1000


# ------------------------------------------------------------------ what is allowed

ALLOWED = {
    "11": [],
    "22": [""],
    "23": ["000000"],
    "23-between": [BIDI_5 + "0000" + "0e00050121" + "00"],
    "47": ["1080200000", "1005", "1005", "1004"],
    "47-stream": [BIDI_5, "110005", "110005", "110004"],
    "47-streams": ["1240641240641205"],
    "48-first-is-large": ["f48c67529ef8c7bdffffffffffffffff"],
    "57-stream": ["0b020161", "0a020161"],
    "57-reset": ["0402090004020900"],
    "57-blocked": ["0b020161", "150205"],
    "empty-frame-after-fin": [BIDI_FIN + "0e000500" + "0f000500"],
    "reset-after-fin": [BIDI_FIN + "04000905"],
    "reset-twice": [BIDI_5 + "04000906" + "04000906"],
    "data-after-reset": [BIDI_5 + "04000906" + "0e00050161"],
    "stop-twice": [BIDI_5 + "050008050009"],
    "exact-limit": ["0a004064" + "61" * 100],
    "last-stream": ["0a404c0161"],
    "datagram-of-the-limit": ["3130" + "00" * 48],
    "blocked": ["1405" + "150005" + "1605" + "1705"],
    "one-length-missing": ["080068656c6c6f"],
}


@pytest.mark.parametrize("records", ALLOWED.values(), ids=ALLOWED.keys())
def test_case_allowed(records: list[str]) -> None:
    end = greeted()
    end.feed(*records)
    assert end.handler.closed is None
    assert end.link.closed is None
    assert end.errors == []


def test_case_55_reason_that_is_not_utf_8() -> None:
    end = greeted()
    end.feed("1d404d03" + "62ff65")
    assert end.handler.closed is not None
    info = end.handler.closed
    assert (info.kind, info.remote, info.code) == ("application", True, 77)
    assert info.reason == "b\ufffde"
    assert (end.sent(), end.link.closed) == (b"", 1000)


def test_case_56_what_follows_the_close_is_discarded() -> None:
    end = greeted()
    end.feed("1d0500" + "01" + BIDI_5, "01", BIDI_5)
    assert end.handler.closed is not None
    assert (end.handler.closed.code, end.handler.closed.kind) == (5, "application")
    assert end.handler.streams == []


def test_case_57_frames_of_a_finished_stream() -> None:
    end = greeted()
    end.feed(BIDI_FIN)
    (stream,) = end.handler.streams
    stream.write(b"", fin=True)
    end.sent()
    assert stream.is_closed
    end.feed("0e0005" + "0121", "04000905", "050008", "110020", "150005")
    assert end.handler.closed is None
    assert len(end.handler.streams) == 1


FLOODS = {
    "padding": lambda number: "00",
    "empty-record": lambda number: "",
    "blocked": lambda number: "1405",
    "streams-blocked": lambda number: "1605",
    "max-data": lambda number: "1005",
    "tiny-max-data": lambda number: f"10{0x8010_0000 + number:08x}",
    "tiny-max-stream-data": lambda number: f"1104{0x8004_0000 + number:08x}",
    "tiny-max-streams": lambda number: f"12{0x4064 + number:04x}",
    "large-max-data": lambda number: f"10{0x8010_0000 + (number << 12):08x}",
    "empty-datagram": lambda number: "3100",
    "ping": lambda number: f"f48c67529ef8c7bd{0x4000 + number:04x}",
    "empty-stream": lambda number: "0e040500",
    "finished-stream": lambda number: "0a020121",
    "stop": lambda number: "050809",
    "reset": lambda number: "040c0905",
    "drain": lambda number: "ed1f8a6bc94e7035",
}


@pytest.mark.parametrize("frame", FLOODS.values(), ids=FLOODS.keys())
def test_case_61_flood(frame: Callable[[int], str]) -> None:
    end = greeted()
    end.feed("0a040568656c6c6f" + "0b020121")
    for number in range(4 * LIMITS.max_idle_items):
        sent = end.feed(frame(number + 1))
        if end.handler.closed is not None:
            break
    else:
        raise AssertionError("the flood goes on")
    assert number >= LIMITS.max_idle_items - 2
    check_closed(end, sent[sent.rindex(b"\x1c\x0a") :], VIOLATION)


@pytest.mark.parametrize("frame", FLOODS.values(), ids=FLOODS.keys())
def test_case_61_a_few_at_a_time_are_no_flood(frame: Callable[[int], str]) -> None:
    limits = QMuxLimits(max_idle_items=200, idle_items_per_second=100, idle_timeout=0)
    end = End(limits=limits).greet()
    end.feed("0a040568656c6c6f" + "0b020121")
    for number in range(300):
        end.feed(frame(number + 1))
        end.clock.advance(1 / 60)
    assert end.handler.closed is None


def test_case_62_half_a_record_does_not_count_as_life() -> None:
    """The link passes whole records only: without one, the connection is idle."""
    end = greeted()
    end.clock.advance(LIMITS.idle_timeout * 7 / 6 + 0.01)
    assert end.handler.closed is not None
    assert end.handler.closed.kind == "idle"
    assert (end.sent(), end.link.closed) == (b"", 1001)
    assert end.clock.waiting == 0
