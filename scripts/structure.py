"""Counts what ties the modules of the package together: import circles and underscore reaches.

An import circle is a set of modules of which each imports, perhaps through others, every other.
It is counted twice: over the imports that run, and over all, with those for type checkers.
``from ..stream import X`` is an import of the module ``stream/__init__.py``.

An underscore reach touches a member that belongs to another part: ``x._member``, where ``x`` is
neither ``self`` nor ``cls`` and ``_member`` is defined in the package, but nowhere in the part
that touches it; the same for ``getattr(x, "_member")`` and ``from ..part.module import _member``.
A part is a directory or a module directly below ``pywebtransport/``. Names with two underscores
at both ends do not count.

A use of a name is an import of it by another module, other than to hand it on: a module that lists
the name in ``__all__`` and does nothing else with it is no user. Names that an ``__init__`` hands
on count for the module that defines them.

Standard library only.
"""

from __future__ import annotations

import argparse
import ast
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "pywebtransport"
# Members of named tuples, which are public in spite of their names.
PUBLIC = {"_asdict", "_fields", "_make", "_replace"}
BY_NAME = {"getattr", "setattr", "hasattr", "delattr"}


@dataclass(frozen=True, order=True)
class Reach:
    """An underscore member that was touched from another part."""

    part: str
    file: str
    line: int
    member: str


class Tree:
    """The modules of a package, parsed.

    Args:
        package: Directory of the package.
    """

    def __init__(self, package: Path) -> None:
        self.package = package
        self.paths = {self._name(path): path for path in sorted(package.rglob("*.py"))}
        self.modules = {name: ast.parse(path.read_text()) for name, path in self.paths.items()}

    def _name(self, path: Path) -> str:
        parts = [self.package.name, *path.relative_to(self.package).with_suffix("").parts]
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    def part(self, module: str) -> str:
        """The directory or module directly below the package; the package's name for itself."""
        return module.split(".")[1] if "." in module else module

    def imports(self, module: str, *, for_types: bool) -> set[str]:
        """The modules of the package that a module imports.

        Args:
            module: Its full name.
            for_types: Whether to count imports under ``if TYPE_CHECKING`` too.
        """
        found: set[str] = set()
        for node in nodes(self.modules[module], for_types=for_types):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                base = self.source(module, node)
                for alias in node.names:
                    inner = f"{base}.{alias.name}"
                    found.add(inner if inner in self.modules else base)
        return found & set(self.modules) - {module}

    def source(self, module: str, node: ast.ImportFrom) -> str:
        """The full name of the module that ``from ... import`` names."""
        if not node.level:
            return node.module or ""
        is_package = self.paths[module].name == "__init__.py"
        parts = module.split(".")
        base = parts[: len(parts) - node.level + is_package]
        return ".".join([*base, *(node.module.split(".") if node.module else [])])

    def uses(self) -> dict[str, list[str]]:
        """By module, all modules that use a name of it; by name (``module.name``), those of it.

        A module that is imported as a whole is used for all of its names.
        """
        handed_on: dict[str, str] = {}
        found: list[tuple[str, str]] = []
        for module, tree in self.modules.items():
            listed = exported(tree)
            every = list(ast.walk(tree))
            loaded = {
                node.id
                for node in every
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
            }
            for node in every:
                if isinstance(node, ast.Import):
                    found += [(alias.name, module) for alias in node.names]
                elif isinstance(node, ast.ImportFrom):
                    source = self.source(module, node)
                    for alias in node.names:
                        own = alias.asname or alias.name
                        name = f"{source}.{alias.name}"
                        if own in listed and own not in loaded:
                            handed_on[f"{module}.{own}"] = name
                        else:
                            found.append((name, module))
        users: dict[str, set[str]] = defaultdict(set)
        for name, user in found:
            while name in handed_on and name not in self.modules:
                name = handed_on[name]
            home = name if name in self.modules else name.rpartition(".")[0]
            if home in self.modules and home != user:
                users[home].add(user)
                users[name].add(user)
        return {name: sorted(users[name]) for name in sorted(users)}

    def unused(self) -> list[str]:
        """The modules of which no other module uses a name, without the packages themselves."""
        packages = {name for name, path in self.paths.items() if path.name == "__init__.py"}
        return sorted(self.modules.keys() - packages - self.uses().keys())

    def circles(self, *, for_types: bool) -> list[list[str]]:
        """The sets of modules that import each other, the largest first."""
        graph = {name: self.imports(name, for_types=for_types) for name in self.modules}
        found = [sorted(each) for each in strongly_connected(graph) if len(each) > 1]
        return sorted(found, key=lambda each: (-len(each), each))

    def reaches(self) -> list[Reach]:
        """Every underscore member that is touched from another part."""
        defined: dict[str, set[str]] = defaultdict(set)
        for module, tree in self.modules.items():
            defined[self.part(module)] |= set(definitions(tree))
        everywhere = set().union(*defined.values())
        found = []
        for module, tree in self.modules.items():
            part = self.part(module)
            foreign = everywhere - defined[part]
            file = str(self.paths[module].relative_to(self.package.parent))
            for line, member in touches(tree):
                if member in foreign:
                    found.append(Reach(part, file, line, member))
            for node in ast.walk(tree):
                if isinstance(node, ast.ImportFrom):
                    source = self.source(module, node)
                    ours = source.split(".")[0] == self.package.name
                    if ours and self.part(source) not in (part, self.package.name):
                        found += [
                            Reach(part, file, node.lineno, alias.name)
                            for alias in node.names
                            if is_underscore(alias.name)
                            and f"{source}.{alias.name}" not in self.modules
                        ]
        return sorted(found)


def nodes(node: ast.AST, *, for_types: bool) -> Iterator[ast.AST]:
    """Every node below one; without ``for_types``, none under ``if TYPE_CHECKING``."""
    yield node
    skipped: list[ast.stmt] = []
    if not for_types and isinstance(node, ast.If):
        if_types = ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")
        skipped = node.body if if_types else []
    for child in ast.iter_child_nodes(node):
        if child not in skipped:
            yield from nodes(child, for_types=for_types)


def strongly_connected(graph: dict[str, set[str]]) -> list[set[str]]:
    """The strongly connected components of a graph (Tarjan), without recursion."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    on_stack: set[str] = set()
    found: list[set[str]] = []
    for root in graph:
        if root in index:
            continue
        work: list[tuple[str, Iterator[str]]] = [(root, iter(sorted(graph[root])))]
        while work:
            node, rest = work[-1]
            if node not in index:
                index[node] = low[node] = len(index)
                stack.append(node)
                on_stack.add(node)
            target = next(rest, None)
            if target is None:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == index[node]:
                    component: set[str] = set()
                    while node not in component:
                        component.add(stack.pop())
                    on_stack -= component
                    found.append(component)
            elif target not in index:
                work.append((target, iter(sorted(graph[target]))))
            elif target in on_stack:
                low[node] = min(low[node], index[target])
    return found


def exported(tree: ast.Module) -> set[str]:
    """The names in ``__all__``."""
    return {
        each.value
        for node in tree.body
        if (isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__")
        or (isinstance(node, ast.AugAssign) and ast.unparse(node.target) == "__all__")
        for each in ast.walk(node.value)
        if isinstance(each, ast.Constant) and isinstance(each.value, str)
    }


def is_underscore(name: str) -> bool:
    """Whether a name is private by convention."""
    return name.startswith("_") and name != "_" and not name.endswith("__") and name not in PUBLIC


def definitions(tree: ast.Module) -> Iterator[str]:
    """The underscore names that a module defines: its own, its classes', its instances'."""
    scopes: list[ast.Module | ast.ClassDef] = [tree]
    scopes += [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    for scope in scopes:
        for node in scope.body:
            names: Iterable[str] = ()
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                names = (node.name,)
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                names = [
                    name.id
                    for target in targets
                    for name in ast.walk(target)
                    if isinstance(name, ast.Name)
                ]
                if isinstance(scope, ast.ClassDef) and "__slots__" in names and node.value:
                    names = [
                        text.value
                        for text in ast.walk(node.value)
                        if isinstance(text, ast.Constant) and isinstance(text.value, str)
                    ]
            yield from filter(is_underscore, names)
    for each in ast.walk(tree):
        if isinstance(each, ast.Attribute) and isinstance(each.ctx, ast.Store):
            yield from filter(is_underscore, [each.attr] if of_itself(each.value) else [])


def of_itself(value: ast.expr) -> bool:
    """Whether an expression is ``self`` or ``cls``."""
    return isinstance(value, ast.Name) and value.id in ("self", "cls")


def touches(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and name of every underscore member that is touched on another object."""
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=owner, attr=name):
                pass
            case ast.Call(func=ast.Name(id=function), args=[owner, ast.Constant(str(name)), *_]):
                if function not in BY_NAME:
                    continue
            case _:
                continue
        if is_underscore(name) and not of_itself(owner):
            yield node.lineno, name


def report(tree: Tree) -> dict[str, object]:
    """All results, as values that can be written as JSON."""
    reaches = tree.reaches()
    return {
        "modules": len(tree.modules),
        "circles": tree.circles(for_types=False),
        "circles_with_types": tree.circles(for_types=True),
        "reaches": len(reaches),
        "reaches_by_part": dict(Counter(each.part for each in reaches).most_common()),
        "uses": tree.uses(),
        "reach_list": [f"{each.file}:{each.line} {each.member}" for each in reaches],
    }


def table(tree: Tree, *, verbose: bool) -> str:
    """The results as text."""
    lines = [f"{len(tree.modules)} modules"]
    for title, for_types in (("import circles", False), ("with imports for type checkers", True)):
        circles = tree.circles(for_types=for_types)
        sizes = ", ".join(f"{len(each)} modules" for each in circles)
        lines.append(f"{title}: {sizes or 'none'}")
        for circle in circles if verbose else ():
            lines += [f"    {name}" for name in circle]
    unused = tree.unused()
    lines.append(f"modules that no other uses: {len(unused)}")
    lines += [f"    {name}" for name in unused if verbose]
    reaches = tree.reaches()
    lines.append(f"underscore reaches: {len(reaches)}")
    for part, count in Counter(each.part for each in reaches).most_common():
        lines.append(f"{count:7}  {part}")
        if verbose:
            lines += [
                f"    {each.file}:{each.line} {each.member}"
                for each in reaches
                if each.part == part
            ]
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print all results as JSON")
    parser.add_argument("--verbose", action="store_true", help="list the modules and places")
    parser.add_argument("--package", type=Path, default=PACKAGE, help="count this package")
    arguments = parser.parse_args()
    if not (arguments.package / "__init__.py").is_file():
        parser.error(f"no package: {arguments.package}")
    modules = Tree(arguments.package.resolve())
    if arguments.json:
        print(json.dumps(report(modules), indent=2))
    else:
        print(table(modules, verbose=arguments.verbose))
