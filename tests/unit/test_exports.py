"""What the package exports, exists; tests/contract says what it has to export."""

import importlib
import inspect
import pkgutil
from types import ModuleType

import pytest

import pywebtransport


def all_modules() -> list[ModuleType]:
    """Every Python module of the package (not the compiled one, not ``__main__``)."""
    names = [
        module.name
        for module in pkgutil.walk_packages(pywebtransport.__path__, "pywebtransport.")
        if not module.name.endswith((".__main__", "._quic._core"))
    ]
    return [pywebtransport, *map(importlib.import_module, names)]


@pytest.mark.parametrize("module", all_modules(), ids=lambda module: module.__name__)
def test_all_is_true(module: ModuleType) -> None:
    """Every name in ``__all__`` exists and is listed once."""
    names = list(getattr(module, "__all__", []))
    assert [name for name in names if not hasattr(module, name)] == []
    assert len(names) == len(set(names))


def test_public_modules_say_what_they_export() -> None:
    silent = [
        module.__name__
        for module in all_modules()
        if not any(part.startswith("_") for part in module.__name__.split(".") if part != "_core")
        and not hasattr(module, "__all__")
    ]
    assert silent == []


def test_top_level_names_are_those_of_the_submodules() -> None:
    """A name at the top is the very object of the module that defines it."""
    for name in pywebtransport.__all__:
        value = getattr(pywebtransport, name)
        defined_here = getattr(value, "__module__", "").startswith("pywebtransport")
        if defined_here and (inspect.isclass(value) or inspect.isfunction(value)):
            home = importlib.import_module(value.__module__)
            assert getattr(home, name) is value, name


def test_version_is_a_release_number() -> None:
    parts = pywebtransport.__version__.split(".")
    assert len(parts) >= 3, pywebtransport.__version__
    assert all(part.isdecimal() for part in parts[:2]), pywebtransport.__version__
