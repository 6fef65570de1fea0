"""C that newer compilers refuse is refused here, whatever compiler this machine has."""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.support.scripts import ROOT, load_script

check_c = load_script("check_c")

# What GCC 14 made errors of warnings; the first is what stopped builds on Debian 13.
REFUSED = {
    "pointer to an array": "const unsigned char (*p)[64]; void f(char *s) { p = s; }",
    "pointer of another type": "void g(long *x); void f(int *s) { g(s); }",
    "callback of another type": "void g(int (*x)(long)); int h(int); void f(void) { g(h); }",
    "number for a pointer": "void f(char **s) { *s = 7; }",
    "pointer for a number": "int f(char *s) { return s; }",
    "function without declaration": "int f(void) { return nowhere(); }",
    "variable without type": "f(void) { return 0; }",
    "value out of nothing": "int f(void) { return; }",
}
COMPILERS = [name for name in ("gcc", "clang") if shutil.which(name)]


@pytest.fixture(scope="module")
def setup_py() -> ModuleType:
    """``setup.py`` without what it does."""
    text = (ROOT / "setup.py").read_text()
    module = ModuleType("setup_py")
    module.__file__ = str(ROOT / "setup.py")
    exec(compile(text[: text.rindex("\nsetup(")], "setup.py", "exec"), vars(module))
    return module


def test_a_compiler_is_there() -> None:
    assert COMPILERS


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("kind", REFUSED)
def test_every_build_refuses_what_new_compilers_refuse(
    compiler: str, kind: str, setup_py: ModuleType
) -> None:
    """Own and generated code alike; "-w" would hide it in either."""
    for flags in (setup_py.ENGINE_FLAGS, setup_py.GENERATED_FLAGS):
        command = [compiler, *flags, "-fsyntax-only", "-x", "c", "-"]
        for source, expected in ((REFUSED[kind], False), ("int f(void) { return 0; }", True)):
            done = subprocess.run(
                command, input=f"{source}\n", capture_output=True, text=True, check=False
            )
            assert (done.returncode == 0) is expected, (flags, done.stderr)


@pytest.mark.parametrize("kind", REFUSED)
def test_the_check_refuses_them(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "wrong.c"
    path.write_text(f"{REFUSED[kind]}\n")
    compilers = len(check_c.compilers())
    assert check_c.check([path], None) == compilers
    assert f"{compilers} with errors" in capsys.readouterr().out


def test_the_check_passes_what_is_right(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "right.c"
    path.write_text("int f(void);\nint f(void) { return 0; }\n")
    assert check_c.check([path], None) == 0
    assert "0 with errors" in capsys.readouterr().out


def test_the_check_reads_every_c_source() -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "*.c"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split()
    checked = {str(path.relative_to(ROOT)) for path in check_c.own_sources()}
    assert checked >= set(tracked)
    assert any(path.startswith("pywebtransport/_quic/engine/") for path in checked)


def test_the_check_reads_what_cython_writes(tmp_path: Path) -> None:
    assert importlib.util.find_spec("Cython"), sys.executable
    generated = check_c.generate(tmp_path)
    assert check_c.check([], generated) == 0


def test_the_binding_declares_no_pointer_to_anything_that_the_engine_types() -> None:
    """A ``void *`` where the header has a type lets Cython write what C compilers refuse."""
    engine = ROOT / "pywebtransport" / "_quic" / "engine" / "quicengine.h"
    binding = ROOT / "pywebtransport" / "_quic" / "quicengine.pxd"
    assert "const void *" not in engine.read_text()
    assert "const void *" not in binding.read_text()
