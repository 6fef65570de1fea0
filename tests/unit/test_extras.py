"""Optional packages: every part that misses one names it, with an extra that exists."""

from __future__ import annotations

import ast
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from pywebtransport.exceptions import ConfigurationError
from pywebtransport.utils._extras import require

ROOT = Path(__file__).resolve().parents[2]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


def required() -> Iterator[tuple[str, str]]:
    """Module and extra of each call of ``require``; an extra may be a constant of its module."""
    for path in (ROOT / "pywebtransport").rglob("*.py"):
        tree = ast.parse(path.read_text())
        constants = {
            ast.unparse(node.targets[0]): node.value
            for node in tree.body
            if isinstance(node, ast.Assign)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "require":
                module, extra = node.args[0], node.keywords[0].value
                extra = constants.get(ast.unparse(extra), extra)
                yield ast.literal_eval(module), ast.literal_eval(extra)


def test_every_optional_package_has_a_call_here() -> None:
    assert {extra for _, extra in required()} == {
        "asgi",
        "fallback",
        "http2",
        "msgpack",
        "nats",
        "opentelemetry",
        "prometheus",
        "protobuf",
        "redis",
        "uvloop",
    }


@pytest.mark.parametrize(("module", "extra"), sorted(set(required())))
def test_a_missing_package_is_named_with_its_extra(
    module: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)  # what Python itself takes for "not there"
    with pytest.raises(ConfigurationError) as caught:
        require(module, extra=extra)
    wanted = " ".join(f'"{requirement}"' for requirement in EXTRAS[extra])
    assert f"{module} cannot be imported: pip install {wanted}" in str(caught.value)
    assert ("in a checkout of pywebtransport" in str(caught.value)) is (len(EXTRAS[extra]) > 1)


def test_a_package_that_is_there_and_broken_is_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_package.py").write_text("import part_that_is_nowhere")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigurationError) as caught:
        require("broken_package", extra="redis")
    assert (
        "broken_package is installed, but cannot be imported (No module named "
        "'part_that_is_nowhere'): pip install --upgrade --force-reinstall "
        f'"{EXTRAS["redis"][0]}"'
    ) in str(caught.value)


def test_installation_page_has_the_extras_for_users() -> None:
    page = (ROOT / "docs" / "intro" / "installation.md").read_text()
    internal = {"benchmark", "dist", "docs", "fuzz", "lint", "test", "types"}
    assert [name for name in EXTRAS if name not in internal and f"`{name}`" not in page] == []
