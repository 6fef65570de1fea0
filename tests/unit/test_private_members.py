"""A name with an underscore belongs to the module that defines it.

``_core`` is one room: its modules share what begins with an underscore. Everything else uses public
members of the objects of other modules, also by no detour such as ``getattr(x, "_name")``.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "pywebtransport"
MODULES = sorted(path for path in PACKAGE.rglob("*.py"))
# Of the standard library, protobuf and hypercorn, where an underscore is part of a documented
# name, or there is no other way.
FOREIGN = {
    "_ParameterKind",
    "_asdict",
    "_current_frames",
    "_exit",
    "_field_type",
    "_fields",
    "_handle_events",
    "_is_coroutine",
    "_make",
    "_name_",
    "_replace",
    "_send_error_response",
}


def is_room(path: Path) -> bool:
    return path.relative_to(PACKAGE).parts[0] == "_core"


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


def defined(tree: ast.Module) -> set[str]:
    """Members that the classes of a module define."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            for item in node.body:
                if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef):
                    names.add(item.name)
                elif isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
                    names.add(item.target.id)
                elif isinstance(item, ast.Assign):
                    names |= {one.id for one in item.targets if isinstance(one, ast.Name)}
        elif (
            isinstance(node, ast.Attribute)
            and isinstance(node.ctx, ast.Store)
            and ast.unparse(node.value) == "self"
        ):
            names.add(node.attr)
    return names


def reaches(tree: ast.Module, own: set[str]) -> Iterator[str]:
    """Each use of an underscore member that is not the module's own."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            of = node.value
            if isinstance(of, ast.Name) and of.id in ("self", "cls"):
                continue
            if isinstance(of, ast.Call) and ast.unparse(of.func) in ("super", "type"):
                continue
            if node.attr not in own | FOREIGN:
                yield f"line {node.lineno}: {ast.unparse(node)}"
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in (
            "getattr",
            "setattr",
            "hasattr",
            "delattr",
        ):
            name = node.args[1] if len(node.args) > 1 else None
            text = str(name.value) if isinstance(name, ast.Constant) else ""
            if is_private(text) and text not in own | FOREIGN:
                yield f"line {node.lineno}: {ast.unparse(node)}"


@pytest.mark.parametrize(
    "path",
    [path for path in MODULES if not is_room(path)],
    ids=lambda path: path.relative_to(PACKAGE).as_posix(),
)
def test_no_underscore_member_of_another_module_is_touched(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert list(reaches(tree, defined(tree))) == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("other._secret", ["line 1: other._secret"]),
        ("self.other._secret = 1", ["line 1: self.other._secret"]),
        ("getattr(other, '_secret', None)", ["line 1: getattr(other, '_secret', None)"]),
        ("self._own + cls._own + super()._own + type(self)._own", []),
        ("class A:\n    def _own(self, other):\n        return other._own", []),
        ("pair._replace(x=1); other.__dict__; other.public", []),
    ],
)
def test_the_check_sees_reaches_and_nothing_else(source: str, found: list[str]) -> None:
    tree = ast.parse(source)
    assert list(reaches(tree, defined(tree))) == found
