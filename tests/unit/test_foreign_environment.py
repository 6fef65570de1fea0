"""Programs that do not load the extension run without the sanitizer's library."""

from __future__ import annotations

import sys

import pytest

from tests.support.environments import foreign_environment, run


def test_foreign_programs_do_not_get_what_is_preloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_PRELOAD", "")
    monkeypatch.setenv("PYTHONMALLOC", "malloc")
    monkeypatch.setenv("SOMETHING_ELSE", "kept")
    environment = foreign_environment(ADDED="1")
    assert "LD_PRELOAD" not in environment
    assert "PYTHONMALLOC" not in environment
    assert (environment["SOMETHING_ELSE"], environment["ADDED"]) == ("kept", "1")


def test_installers_are_foreign_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONMALLOC", "malloc")
    run(sys.executable, "-c", "import os, sys; sys.exit('PYTHONMALLOC' in os.environ)")
