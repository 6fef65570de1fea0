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
from setuptools.command.build import build
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
QUIC = "pywebtransport/_quic"
ENGINE = f"{QUIC}/engine"

# What GCC 14 and clang 16 refuse, older compilers refuse too: a mistake of this kind stops the
# build of whoever made it, and not first that of a user with a newer compiler. All compilers know
# these names. No "-w" for what Cython generates: it would hide them.
STRICT_FLAGS = [
    "-std=gnu11",
    "-Werror=implicit-function-declaration",
    "-Werror=implicit-int",
    "-Werror=incompatible-pointer-types",
    "-Werror=int-conversion",
    "-Werror=return-type",
]
# The sources of the engine are ours. Style of what Cython generates is not for us to lint here;
# scripts/check_c.py looks at both with all warnings.
ENGINE_FLAGS = [*STRICT_FLAGS, "-Wall", "-Wextra"]
GENERATED_FLAGS = STRICT_FLAGS


def files(folder: str, *patterns: str) -> list[str]:
    """Files of a folder that match, relative to the root, sorted."""
    found = {path for pattern in patterns for path in (ROOT / folder).glob(pattern)}
    return sorted(path.relative_to(ROOT).as_posix() for path in found)


def wanted(name: str) -> bool:
    """Whether a switch of the environment is on."""
    return os.environ.get(f"PYWEBTRANSPORT_{name}", "") not in ("", "0")


def mode_flags() -> tuple[list[str], list[str]]:
    """Flags for compiler and linker that the environment asks for."""
    level, extra, both = "-O2", [], []
    if wanted("SANITIZE"):
        level, extra = "-O1", ["-g", "-fno-omit-frame-pointer"]
        both = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
    if wanted("COVERAGE"):
        level, both = "-O0", [*both, "--coverage"]
    if wanted("DEBUG"):
        level, extra = "-O0", [*extra, "-g3"]
    return [level, *extra, *both], both


def load_requirements() -> ModuleType:
    """Import ``vendor/requirements.py``, which is no part of the package."""
    path = ROOT / "vendor" / "requirements.py"
    specification = importlib.util.spec_from_file_location("vendor_requirements", path)
    if specification is None or specification.loader is None or not path.exists():
        raise SystemExit(f"error: {path} is missing; the source tree is not complete")
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module  # dataclasses look their module up
    specification.loader.exec_module(module)
    return module


class Build(build):
    """Compiles first, so that what stops a build is not below a list of copied files."""

    sub_commands = sorted(build.sub_commands, key=lambda command: command[0] != "build_ext")


class BuildExtension(build_ext):
    """Checks the system first; compiles the engine with flags of its own, in parallel."""

    def run(self) -> None:
        requirements = load_requirements()
        try:
            libraries = requirements.check()
        except requirements.RequirementsError as error:
            raise SystemExit(f"error: {error}") from None
        compile_flags, link_flags = mode_flags()
        (extension,) = self.extensions
        extension.extra_compile_args = [
            *compile_flags,
            "-fvisibility=hidden",
            *libraries.compile,
        ]
        extension.extra_link_args = [*link_flags, *libraries.link]
        # What was built with other flags is not up to date, whatever its date.
        stamp = Path(self.build_temp, "flags.txt")
        flags = repr((sys.version, os.environ.get("CC"), wanted("WERROR"), vars(extension)))
        if not stamp.exists() or stamp.read_text(encoding="utf-8") != flags:
            self.force = True
        super().run()
        stamp.parent.mkdir(parents=True, exist_ok=True)
        stamp.write_text(flags, encoding="utf-8")

    def build_extensions(self) -> None:
        """Compile every source by itself, several at a time."""
        compile_many = self.compiler.compile
        engine_flags = [*ENGINE_FLAGS, *(["-Werror"] if wanted("WERROR") else [])]

        def compile_each(
            sources: list[str], *, extra_postargs: list[str], **options: Any
        ) -> list[str]:
            def one(source: str) -> list[str]:
                own = engine_flags if source.startswith(ENGINE) else GENERATED_FLAGS
                objects: list[str] = compile_many(
                    [source], extra_postargs=[*extra_postargs, *own], **options
                )
                return objects

            with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
                return [name for objects in pool.map(one, sources) for name in objects]

        self.compiler.compile = compile_each
        super().build_extensions()


setup(
    ext_modules=[
        Extension(
            "pywebtransport._quic._core",
            # The module first: compiling it takes as long as half of the others.
            sources=[f"{QUIC}/_core.pyx", *files(ENGINE, "*.c")],
            depends=[*files(QUIC, "*.pyx", "*.pxi", "*.pxd"), *files(ENGINE, "*.h")],
            # Not the engine itself: its sched.h would hide the system's.
            include_dirs=[QUIC],
        )
    ],
    cmdclass={"build": Build, "build_ext": BuildExtension},
)
