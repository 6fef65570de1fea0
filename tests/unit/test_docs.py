"""The documentation says what the code does: its programs are files that run."""

import ast
import functools
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import pywebtransport

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(
    [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")]
    + [path for path in DOCS.rglob("*.md") if "_build" not in path.parts]
)
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def blocks(path: Path, language: str) -> list[str]:
    """The code blocks of a page in one language."""
    return [body for name, body in FENCE.findall(path.read_text()) if name == language]


def python_blocks() -> list[tuple[str, str]]:
    return [
        (f"{relative(path)}:{number}", body)
        for path in PAGES
        for number, body in enumerate(blocks(path, "python"), 1)
    ]


def test_readme_shows_the_very_files_and_commands() -> None:
    """Programs of ``examples/``, install commands of ``vendor/libraries.toml``."""
    readme = (ROOT / "README.md").read_text()
    finished = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys, sync_readme; sys.stdout.write(sync_readme.synchronised(sys.stdin.read()))",
        ],
        cwd=ROOT / "scripts",
        input=readme,
        capture_output=True,
        text=True,
        check=True,
    )
    assert readme == finished.stdout, "run scripts/sync_readme.py"
    server, client = blocks(ROOT / "README.md", "python")
    assert server == (ROOT / "examples" / "echo_server.py").read_text()
    assert client == (ROOT / "examples" / "echo_client.py").read_text()


@pytest.mark.parametrize(("place", "body"), python_blocks(), ids=lambda value: value.split("\n")[0])
def test_python_in_the_documentation_is_python(place: str, body: str) -> None:
    """It parses, and every name it imports from this package exists."""
    for node in ast.walk(ast.parse(body, place)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pywebtransport"):
            assert node.module is not None
            module = __import__(node.module, fromlist=["*"])
            missing = [alias.name for alias in node.names if not hasattr(module, alias.name)]
            assert missing == [], place


@pytest.mark.parametrize(("place", "body"), python_blocks(), ids=lambda value: value.split("\n")[0])
def test_configuration_in_the_documentation_has_real_fields(place: str, body: str) -> None:
    classes = {
        "ClientConfig": pywebtransport.ClientConfig,
        "ServerConfig": pywebtransport.ServerConfig,
    }
    for node in ast.walk(ast.parse(body, place)):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        owner = classes.get(ast.unparse(node.func.value))
        if owner is not None and node.func.attr == "create":
            fields = owner.create().to_dict()
            unknown = [key.arg for key in node.keywords if key.arg not in fields]
            assert unknown == [], place


@functools.cache
def keywords() -> frozenset[str]:
    """Fields of the configurations, and the parameters of every public callable."""
    names = set(pywebtransport.ServerConfig.create().to_dict())
    names |= set(pywebtransport.ClientConfig.create().to_dict())
    for module in pkgutil.walk_packages(pywebtransport.__path__, "pywebtransport."):
        if module.name.rpartition(".")[2].startswith("_"):
            continue
        for value in vars(importlib.import_module(module.name)).values():
            members = [value, *vars(value).values()] if inspect.isclass(value) else [value]
            for member in members:
                member = getattr(member, "__func__", member)
                if inspect.isfunction(member):
                    names |= set(inspect.signature(member).parameters)
    return frozenset(names)


@pytest.mark.parametrize("path", PAGES, ids=relative)
def test_settings_named_in_a_page_exist(path: Path) -> None:
    """`some_setting=value` in running text is a field of a configuration or an argument."""
    text = re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    named = {name for name in re.findall(r"`(?:\w+\()?(?:\w+, )*([a-z_]+)=[^`]+`", text)}
    assert sorted(named - keywords()) == []


@pytest.mark.parametrize("path", PAGES, ids=relative)
def test_links_to_files_lead_somewhere(path: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    broken = [
        target
        for target in LINK.findall(text)
        if "://" not in target and not (path.parent / target).exists()
    ]
    assert broken == []


@pytest.mark.parametrize("path", PAGES, ids=relative)
def test_included_files_exist(path: Path) -> None:
    included = re.findall(
        r"^```\{(?:literalinclude|include|figure)\} (\S+)", path.read_text(), re.M
    )
    assert [name for name in included if not (path.parent / name).exists()] == []


def test_every_page_is_in_a_table_of_contents() -> None:
    listed = set()
    for path in [DOCS / "index.md", DOCS / "reference" / "index.md"]:
        for body in re.findall(r"^```\{toctree\}\n(.*?)^```$", path.read_text(), re.M | re.S):
            listed |= {
                (path.parent / line).with_suffix(".md")
                for line in body.splitlines()
                if line and not line.startswith(":")
            }
    pages = {path for path in PAGES if DOCS in path.parents} - {DOCS / "index.md"}
    assert sorted(map(relative, pages - listed)) == []
    assert sorted(map(relative, listed - pages)) == []


def test_every_target_of_the_makefile_that_is_mentioned_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    mentioned = {
        target
        for path in PAGES
        for target in re.findall(r"(?:`|\$ )make ([a-z-]+)", path.read_text())
    }
    assert mentioned - targets == set()
    assert {"demo", "test", "setup", "docs"} <= mentioned
