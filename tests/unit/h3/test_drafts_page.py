"""The page about drafts lists every conformance case with a test that exists."""

import re
from pathlib import Path

from pywebtransport.h3._dialects import DIALECTS

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "topics" / "drafts.md").read_text()


def test_every_case_has_a_test() -> None:
    rows = re.findall(r"^\| (\d+) \| .+ \| `(test_\w+)` \|$", PAGE, re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(1, 111))
    sources = [
        *ROOT.glob("tests/unit/h3/test_conformance_*.py"),
        *ROOT.glob("tests/integration/test_conformance_wire*.py"),
    ]
    defined = {
        name
        for path in sources
        for name in re.findall(r"^(?:async )?def (test_\w+)", path.read_text(), re.MULTILINE)
    }
    assert [name for _, name in rows if name not in defined] == []
    assert [n for n, name in rows if f"{int(n):03}" not in name] == []


def test_the_table_of_dialects_is_that_of_the_code() -> None:
    rows = re.findall(r"^\| (\d+) \| .+ \w+ (0x[0-9a-f]+) \| `(webtransport[\w-]*)`", PAGE, re.M)
    assert rows == [
        (str(dialect.draft), f"0x{dialect.enabling[0]:x}", dialect.token)
        for dialect in DIALECTS.values()
    ]


def test_every_rule_of_http_requests_has_a_test() -> None:
    section = PAGE.split("## HTTP requests")[1]
    rows = re.findall(r"^\| .+ \| .+ \| `(test_\w+)` \|$", section, re.MULTILINE)
    assert len(rows) == section.count("\n|") - 2
    sources = "".join(path.read_text() for path in ROOT.glob("tests/unit/h3/test_*.py"))
    assert [name for name in rows if f"def {name}(" not in sources] == []
