"""Records and their comparison."""

from __future__ import annotations

import json
import platform
import sys
from pathlib import Path

import pytest

from .record import (
    Figure,
    RecordError,
    Records,
    Verdict,
    compare,
    differences,
    platform_key,
)

HERE = {"python": "3.11.7", "libraries": "libngtcp2.so.16.2.9"}
ELSEWHERE = {"python": "3.11.7", "libraries": "libngtcp2.so.16.5.0"}
FAR = {"python": "3.11.2", "libraries": "libngtcp2.so.16.5.0"}


@pytest.mark.parametrize(
    ("now", "verdict"),
    [
        (100_000, Verdict.SAME),
        (105_000, Verdict.SAME),
        (105_001, Verdict.WORSE),
        (95_000, Verdict.SAME),
        (94_999, Verdict.BETTER),
    ],
)
def test_five_percent_are_tolerated(now: int, verdict: Verdict) -> None:
    (result,) = compare({"upload": Figure(16, now)}, {"upload": Figure(16, 100_000)})
    assert result.verdict is verdict
    assert result.change == pytest.approx(now / 100_000 - 1)


def test_workload_without_a_record_has_no_change() -> None:
    (result,) = compare({"upload": Figure(16, 1)}, {"download": Figure(16, 1)})
    assert (result.verdict, result.change) == (Verdict.UNKNOWN, None)


def test_other_amount_of_work_is_not_compared() -> None:
    (result,) = compare({"upload": Figure(32, 200)}, {"upload": Figure(16, 100)})
    assert (result.verdict, result.change) == (Verdict.CHANGED, None)


def test_platform_is_minor_version_and_architecture() -> None:
    major, minor = sys.version_info[:2]
    assert platform_key() == f"cpython-{major}.{minor}-{platform.machine()}"


def test_records_survive_the_file(tmp_path: Path) -> None:
    path = tmp_path / "recorded.json"
    records = Records.load(path)
    records.store("p", HERE, {"upload": Figure(16, 100), "streams": Figure(5, 50)})
    records.store("p", ELSEWHERE, {"upload": Figure(16, 200)})
    records.store("p", HERE, {"upload": Figure(16, 90)})
    records.save(path)
    again = Records.load(path)
    here, elsewhere = again.find("p", HERE), again.find("p", ELSEWHERE)
    assert here is not None
    assert elsewhere is not None
    assert here.figures == {"upload": Figure(16, 90), "streams": Figure(5, 50)}
    assert elsewhere.figures == {"upload": Figure(16, 200)}
    assert again.platforms() == ["p"]


def test_only_like_is_found_and_the_nearest_is_known() -> None:
    records = Records()
    records.store("p", HERE, {"upload": Figure(16, 100)})
    records.store("p", ELSEWHERE, {"upload": Figure(16, 200)})
    assert records.find("q", HERE) is None
    assert records.find("p", FAR) is None
    nearest = records.nearest("p", FAR)
    assert nearest is not None
    assert nearest.environment == ELSEWHERE
    assert records.nearest("q", HERE) is None


def test_differences_name_what_differs() -> None:
    assert differences(HERE, HERE) == []
    assert differences(HERE, ELSEWHERE) == [
        ("libraries", "libngtcp2.so.16.2.9", "libngtcp2.so.16.5.0")
    ]
    assert differences({"a": "1"}, {"b": "2"}) == [
        ("a", "1", "unknown"),
        ("b", "not recorded", "2"),
    ]


@pytest.mark.parametrize(
    ("document", "complaint"),
    [
        ("{", "no JSON"),
        ([], "expected an object"),
        ({"p": {}}, "p: expected a list"),
        ({"p": [{}]}, r"p\[0\]: expected environment and figures"),
        ({"p": [{"environment": {"a": 1}, "figures": {}}]}, "environment must map names to text"),
        ({"p": [{"environment": {}, "figures": []}]}, "figures must be an object"),
        (
            {"p": [{"environment": {}, "figures": {"upload": {"operations": 1}}}]},
            r"p\[0\]: upload: expected operations and instructions",
        ),
        (
            {
                "p": [
                    {
                        "environment": {},
                        "figures": {"upload": {"operations": 1, "instructions": 0}},
                    }
                ]
            },
            "instructions must be a whole number >= 1, got 0",
        ),
    ],
)
def test_damaged_file_is_refused(tmp_path: Path, document: object, complaint: str) -> None:
    path = tmp_path / "recorded.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    with pytest.raises(RecordError, match=complaint):
        Records.load(path)


def test_recorded_file_is_sound() -> None:
    """The one in the repository: read, and every record has all workloads."""
    from .workloads import WORKLOADS

    records = Records.load(Path(__file__).with_name("recorded.json"))
    assert records.platforms()
    for key in records.platforms():
        record = records.nearest(key, {})
        assert record is not None
        assert {name: figure.operations for name, figure in record.figures.items()} == {
            workload.name: workload.operations for workload in WORKLOADS.values()
        }
