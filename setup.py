"""Builds the one extension module, ``pywebtransport._quic._core``.

Everything else about the package is in ``pyproject.toml``. The environment can ask for

- ``PYWEBTRANSPORT_DEBUG=1``     no optimisation, debug symbols
- ``PYWEBTRANSPORT_SANITIZE=1``  AddressSanitizer and UndefinedBehaviorSanitizer
- ``PYWEBTRANSPORT_COVERAGE=1``  gcov counters in the engine
- ``PYWEBTRANSPORT_WERROR=1``    warnings of the engine are errors (development and CI)
"""

from __future__ import annotations

import importlib.util
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
QUIC = Path("pywebtransport", "_quic")
ENGINE = QUIC / "engine"

# Engine sources are ours: strict. What Cython generates is not for us to lint.
ENGINE_FLAGS = ["-std=gnu11", "-Wall", "-Wextra"]
GENERATED_FLAGS = ["-w"]


def files(folder: Path, *patterns: str) -> list[str]:
    """Paths below the root that match, sorted, with forward slashes."""
    found = {path for pattern in patterns for path in (ROOT / folder).glob(pattern)}
    return sorted(path.relative_to(ROOT).as_posix() for path in found)


def wanted(name: str) -> bool:
    """Whether a switch of the environment is on."""
    return os.environ.get(f"PYWEBTRANSPORT_{name}", "") not in ("", "0")


def load_requirements() -> ModuleType:
    """Import ``vendor/requirements.py``, which is no part of the package."""
    path = ROOT / "vendor" / "requirements.py"
    specification = importlib.util.spec_from_file_location("vendor_requirements", path)
    if specification is None or specification.loader is None:
        raise SystemExit(f"error: {path} is missing; the source tree is not complete")
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module
    specification.loader.exec_module(module)
    return module


def mode_flags() -> tuple[list[str], list[str]]:
    """Flags of compiler and linker that the environment asks for."""
    compile_flags = ["-O0" if wanted("DEBUG") or wanted("COVERAGE") else "-O2"]
    link_flags: list[str] = []
    if wanted("DEBUG"):
        compile_flags += ["-g3"]
    if wanted("SANITIZE"):
        compile_flags += ["-O1", "-g", "-fno-omit-frame-pointer"]
        link_flags += ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
    if wanted("COVERAGE"):
        link_flags += ["--coverage"]
    return compile_flags + link_flags, link_flags


class BuildExtension(build_ext):
    """Checks the system, runs Cython, and compiles the engine with flags of its own."""

    def run(self) -> None:
        requirements = load_requirements()
        try:
            libraries = requirements.check()
        except requirements.RequirementsError as error:
            raise SystemExit(f"error: {error}") from None
        compile_flags, link_flags = mode_flags()
        for extension in self.extensions:
            extension.extra_compile_args = [
                *compile_flags,
                "-fvisibility=hidden",
                *libraries.compile,
            ]
            extension.extra_link_args = [*link_flags, *libraries.link]
        self._force_when_flags_changed()
        super().run()

    def build_extension(self, ext: Extension) -> None:
        """Compile every source in a thread of its own pool, then link as usual."""
        from Cython.Build import cythonize

        (ext.sources,) = ([module] for module in ext.sources if module.endswith(".pyx"))
        (generated,) = cythonize([ext], force=bool(self.force), quiet=True)
        target = Path(self.get_ext_fullpath(ext.name))
        sources = [*generated.sources, *files(ENGINE, "*.c")]
        inputs = [*sources, *ext.depends]
        if not self.force and target.exists():
            built = target.stat().st_mtime
            if all((ROOT / name).stat().st_mtime <= built for name in inputs):
                return
        ext.extra_objects = self._compile_all(ext, sources)
        ext.sources = []
        ext.depends = []
        super().build_extension(ext)
        self._remember_flags()

    def _compile_all(self, ext: Extension, sources: list[str]) -> list[str]:
        strict = [*ENGINE_FLAGS, *(["-Werror"] if wanted("WERROR") else [])]

        def compile_one(source: str) -> list[str]:
            ours = source.startswith(ENGINE.as_posix())
            objects: list[str] = self.compiler.compile(
                [source],
                output_dir=self.build_temp,
                include_dirs=ext.include_dirs,
                extra_postargs=[*ext.extra_compile_args, *(strict if ours else GENERATED_FLAGS)],
                depends=ext.depends,
            )
            return objects

        # The largest file first: it takes as long as many of the others.
        with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
            return [name for objects in pool.map(compile_one, sources) for name in objects]

    # A module that is up to date but was built with other flags must be built again.

    def _flags_file(self) -> Path:
        return ROOT / "build" / "core-flags.txt"

    def _flags_text(self) -> str:
        extension = self.extensions[0]
        parts = [sys.version, os.environ.get("CC", ""), os.environ.get("CFLAGS", "")]
        parts += [*extension.extra_compile_args, *extension.extra_link_args]
        return "\n".join(parts)

    def _force_when_flags_changed(self) -> None:
        path = self._flags_file()
        if not path.exists() or path.read_text(encoding="utf-8") != self._flags_text():
            self.force = True

    def _remember_flags(self) -> None:
        if not self.inplace and not self.editable_mode:
            return
        path = self._flags_file()
        path.parent.mkdir(exist_ok=True)
        path.write_text(self._flags_text_before_link, encoding="utf-8")

    _flags_text_before_link = ""

    def finalize_options(self) -> None:
        super().finalize_options()


core = Extension(
    "pywebtransport._quic._core",
    sources=[(QUIC / "_core.pyx").as_posix(), *files(ENGINE, "*.c")],
    depends=[*files(QUIC, "*.pyx", "*.pxi", "*.pxd"), *files(ENGINE, "*.h")],
    include_dirs=[QUIC.as_posix(), ENGINE.as_posix()],
)

options: dict[str, Any] = {
    "ext_modules": [core],
    "cmdclass": {"build_ext": BuildExtension},
}
setup(**options)
