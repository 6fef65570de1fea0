"""The documentation says what the code does: its programs are files that run."""

import ast
import functools
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType, ModuleType

import pytest

import pywebtransport
from tests.support.pages import DOCS, PAGES, ROOT, blocks, prose, relative

LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
DIRECTIVE = re.compile(r"^\.\. auto(class|function|data|module):: (\S+)\n((?:   :.*\n)*)", re.M)
# What a program may import from: the packages, and the modules that have no package above them.
PUBLIC_MODULES = [
    pywebtransport,
    *(
        importlib.import_module(module.name)
        for module in pkgutil.iter_modules(pywebtransport.__path__, "pywebtransport.")
        if not module.name.rpartition(".")[2].startswith("_")
    ),
    *(
        importlib.import_module(f"pywebtransport.{name}.utils")
        for name in ("client", "connection", "datagram", "server", "stream")
    ),
]


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
    _, client = blocks(ROOT / "README.md", "python")
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
    text = prose(path)
    named = {name for name in re.findall(r"`(?:\w+\()?(?:\w+, )*([a-z_]+)=[^`]+`", text)}
    assert sorted(named - keywords()) == []


@pytest.mark.parametrize("path", PAGES, ids=relative)
def test_links_to_files_lead_somewhere(path: Path) -> None:
    text = prose(path)
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


@pytest.mark.parametrize("path", PAGES, ids=relative)
def test_paths_named_in_a_page_exist(path: Path) -> None:
    """`tests/engine/`, `examples/chat.py`, with placeholders in capitals left out."""
    top = "|".join(entry.name for entry in ROOT.iterdir() if re.fullmatch(r"[a-z]\w+", entry.name))
    named = re.findall(rf"(?<![\w./-])((?:{top})/[\w./-]*\w/?)", path.read_text())
    missing = [name for name in named if not (ROOT / name).exists()]
    built = ("docs/_build", "build/", "dist/")
    assert [name for name in missing if not name.startswith(built) and name == name.lower()] == []


@pytest.mark.parametrize("folder", ["tests", "pywebtransport"])
def test_contributing_has_every_directory(folder: str) -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    named = " ".join(rows)
    for entry in (ROOT / folder).iterdir():
        if entry.is_dir() and any(entry.glob("*.py")) and entry.name != "__pycache__":
            assert f"{entry.name}/`" in named, entry


def members(module: ModuleType, options: str) -> Iterator[object]:
    """What Sphinx shows of ``__all__``: classes and functions with a docstring."""
    left_out = re.findall(r"\w+", " ".join(re.findall(r":exclude-members: (.*)", options)))
    for name in module.__all__:
        value = getattr(module, name)
        described = inspect.isclass(value) or inspect.isfunction(value)
        if (
            described
            and name not in left_out
            and ":no-members:" not in options
            and (value.__doc__ or ":undoc-members:" in options)
        ):
            yield value


@functools.cache
def documented() -> tuple[list[object], frozenset[str]]:
    """The objects that the reference describes, and the names in its tables."""
    objects: list[object] = []
    names: set[str] = set()
    for path in (DOCS / "reference").glob("*.md"):
        text = path.read_text()
        names |= set(re.findall(r"`(?:pywebtransport\.)?(\w+)`", text))
        for kind, target, options in DIRECTIVE.findall(text):
            if kind == "module":
                described = importlib.import_module(target)
                objects += members(described, options)
                # Other values are shown when a docstring follows them.
                names |= set(re.findall(r'^(\w+): .*\n"""', inspect.getsource(described), re.M))
            else:
                module, _, name = target.rpartition(".")
                objects.append(getattr(importlib.import_module(module), name))
    return objects, frozenset(names)


@pytest.mark.parametrize("module", PUBLIC_MODULES, ids=lambda module: module.__name__)
def test_every_public_name_is_in_the_reference(module: ModuleType) -> None:
    """Classes and functions of ours are described; other values are at least named in a table."""
    objects, names = documented()

    def found(name: str) -> bool:
        value = getattr(module, name)
        if any(value is item for item in objects):
            return True
        ours = getattr(value, "__module__", "").startswith("pywebtransport")
        return name in names and not (ours and isinstance(value, type | FunctionType))

    assert [name for name in module.__all__ if not found(name)] == []


def test_the_reference_shows_the_parameters_of_constructors() -> None:
    """Most are described in ``__init__``, which Sphinx leaves out unless it is told otherwise."""
    assert "\nnapoleon_include_init_with_doc = True\n" in (DOCS / "conf.py").read_text()


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
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    mentioned = {
        target
        for path in PAGES
        for target in re.findall(r"(?:`|\$ )make ([a-z0-9-]+)", path.read_text())
    }
    assert mentioned - targets == set()
    assert {"demo", "test", "setup", "docs"} <= mentioned
