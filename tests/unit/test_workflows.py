"""Continuous integration, hooks and the documentation's host do what the Makefile does.

That these files follow their schemas, `make lint` checks.
"""

import itertools
import re
import tomllib
from typing import Any

import pytest
import yaml

from tests.support.scripts import ROOT, load_script

packages = load_script("system_packages")

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
MAKEFILE = (ROOT / "Makefile").read_text()
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
TARGETS = set(re.findall(r"^([a-z0-9-]+):.* ## ", MAKEFILE, re.M))
VARIABLES = set(re.findall(r"^([A-Z_]+) +\?=", MAKEFILE, re.M))
PLACEHOLDER = re.compile(r"\$\{\{ *matrix\.(\w+) *\}\}")


def load(name: str) -> dict[Any, Any]:
    document = yaml.safe_load((ROOT / name).read_text())
    assert isinstance(document, dict)
    return document


def combinations(job: dict[str, Any]) -> list[dict[str, str]]:
    """The values that a job runs with: each of its matrix, or none."""
    matrix = dict(job.get("strategy", {}).get("matrix", {}))
    included = matrix.pop("include", [])
    product = [
        dict(zip(matrix, values, strict=True)) for values in itertools.product(*matrix.values())
    ]
    return [*(product if matrix else []), *included] or [{}]


def commands(path: Any) -> list[str]:
    """Every command that a workflow runs, with the values of the matrix in it."""
    return [
        PLACEHOLDER.sub(lambda match, values=values: values[match[1]], step["run"])
        for job in load(path)["jobs"].values()
        for values in combinations(job)
        for step in job["steps"]
        if "run" in step
    ]


def wrong_words(command: str) -> list[str]:
    """What in a command is not `make`, a target that is listed, or a variable that it takes."""
    program, *words = command.split(" ")
    wrong = [] if program == "make" and words else [program]
    for word in words:
        name, assigned, _ = word.partition("=")
        if name not in (VARIABLES if assigned else TARGETS):
            wrong.append(word)
    return wrong


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_run_the_makefile_and_nothing_else(path: Any) -> None:
    found = commands(path)
    assert found
    assert {command: wrong_words(command) for command in found if wrong_words(command)} == {}


@pytest.mark.parametrize(
    ("command", "wrong"),
    [
        ("make test", []),
        ("make soak SOAK_SCALE=0.05", []),
        ("make tset", ["tset"]),
        ("make fuzz FUZZ_SECOND=1", ["FUZZ_SECOND=1"]),
        ("make test && rm x", ["&&", "rm", "x"]),
        ("make", ["make"]),
        ("pip install .", ["pip", "install", "."]),
    ],
)
def test_other_commands_would_be_found(command: str, wrong: list[str]) -> None:
    assert wrong_words(command) == wrong


def test_what_continuous_integration_runs() -> None:
    gate, nightly, docs = (
        {command.split()[1] for command in commands(f".github/workflows/{name}.yml")}
        for name in ("gate", "nightly", "docs")
    )
    assert gate == {"test", "test-debian12", "test-debian13"}
    assert nightly == {
        *("sanitize", "test-newest", "test-newest-web", "test-wheel", "test-image"),
        *("fuzz", "attack", "soak"),
    }
    assert docs == {"docs"}


def test_the_gate_covers_the_supported_systems_and_versions() -> None:
    job = load(".github/workflows/gate.yml")["jobs"]["test"]
    matrix = job["strategy"]["matrix"]
    tried = set(re.findall(r"matrix\.python == '([\d.]+)'", job["continue-on-error"]))
    classifier = "Programming Language :: Python :: 3."
    supported = [
        text.rpartition(" ")[2]
        for text in PYPROJECT["project"]["classifiers"]
        if text.startswith(classifier)
    ]
    assert [version for version in matrix["python"] if version not in tried] == supported
    assert tried <= set(matrix["python"])
    assert PYPROJECT["project"]["requires-python"] == f">={supported[0]}"
    (local,) = re.findall(r"for version in ([\d. ]+); do", MAKEFILE)
    assert local.split() == supported
    assert matrix["debian"] == ["bookworm", "trixie"]
    assert job["container"]["image"] == "python:${{ matrix.python }}-${{ matrix.debian }}"


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_may_only_read(path: Any) -> None:
    document = load(path)
    assert document["permissions"] == {"contents": "read"}
    assert [name for name, job in document["jobs"].items() if "permissions" in job] == []


def test_hooks_run_tools_of_the_lint_target() -> None:
    """With the versions of the gate, and without the source of another project."""
    lint = re.split(r"^lint: ", MAKEFILE, flags=re.M)[1].split("\n\n")[0]
    installed = {
        re.split(r"[<>=~]", line)[0]
        for line in PYPROJECT["project"]["optional-dependencies"]["lint"]
    }
    seen = []
    for repository in load(".pre-commit-config.yaml")["repos"]:
        assert repository["repo"] == "local"
        for hook in repository["hooks"]:
            assert hook["language"] == "system"
            folder, _, rest = hook["entry"].partition("bin/")
            tool = rest.split()[0]
            assert folder == ".venv/"
            assert tool in installed
            assert f"$(BIN)/{tool} " in lint
            seen.append(hook["id"])
    assert seen == ["ruff-check", "ruff-format", "clang-format", "codespell"]


def test_the_host_of_the_documentation_installs_what_a_build_needs() -> None:
    settings = load(".readthedocs.yaml")
    catalogue = packages.load_requirements().load()
    # Python and what belongs to it comes from there.
    needed = [
        name
        for item in catalogue.requirements
        if "build" in item.groups and (item.pkg_config or item.commands)
        for name in item.packages["ubuntu"]
    ]
    assert settings["build"]["apt_packages"] == needed
    assert settings["sphinx"]["fail_on_warning"] is True
    (install,) = settings["python"]["install"]
    assert install["extra_requirements"] == ["docs"]
    assert (ROOT / settings["sphinx"]["configuration"]).is_file()


def test_links_to_the_project_lead_to_one_place() -> None:
    urls = PYPROJECT["project"]["urls"]
    home = urls["Homepage"]
    assert all(url == home or url.startswith(f"{home}/") for url in urls.values())
    for link in load(".github/ISSUE_TEMPLATE/config.yml")["contact_links"]:
        assert link["url"].startswith(f"{home}/")
    for url in urls.values():
        branch = f"{home}/blob/main/", f"{home}/tree/main/"
        if url.startswith(branch):
            assert (ROOT / url.split("/main/")[1]).exists()


@pytest.mark.parametrize("name", ["bug", "feature"])
def test_labels_and_fields_of_issue_forms_are_unique(name: str) -> None:
    form = load(f".github/ISSUE_TEMPLATE/{name}.yml")
    fields = [field for field in form["body"] if field["type"] != "markdown"]
    for values in (
        [field["id"] for field in fields],
        [field["attributes"]["label"] for field in fields],
    ):
        assert len(set(values)) == len(values)
    assert any(field.get("validations", {}).get("required") for field in fields)
