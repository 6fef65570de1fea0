"""Does what the Dockerfile says, without Docker, and tries the result.

    image.py            # as root

Each stage is a copy of a bare Debian as ``debian_root.py`` makes it. RUN is executed in it, COPY
takes what ``.dockerignore`` lets through. Then the server of the image starts as its user; a probe
has to reach it, and SIGTERM has to end it with status 0. The run image may add at most 120 MB to
the bare system.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import debian_root
from system_packages import SetupError

ROOT = Path(__file__).resolve().parent.parent
LARGEST = 120_000_000
SUITE = "trixie"
BASE = f"debian:{SUITE}-slim"
# What the bare root has beyond the base image. The certificates stay: those of this machine may be
# needed to reach packages.
NOT_IN_BASE = ["git", "make"]

# Runs in the root as root. $1 is the user of the image, the rest its command.
TRY = r"""
user=$1; shift
mkdir -p /run/certificates
cd /run/certificates
python - <<'END'
from pywebtransport.utils import generate_self_signed_cert
print(*generate_self_signed_cert("localhost", "."))
END
mv localhost.crt tls.crt; mv localhost.key tls.key
chown "$user" tls.crt tls.key
cd "$OLDPWD"
as_user=(setpriv "--reuid=$user" "--regid=$user" --clear-groups --no-new-privs --bounding-set=-all)
"${as_user[@]}" "$@" &
server=$!
trap 'kill -KILL $server 2> /dev/null || true' EXIT
for attempt in 1 2 3 4 5 6; do
  probe=0
  "${as_user[@]}" pywebtransport probe --ca /run/certificates/tls.crt \
    https://localhost:4433/echo || probe=$?
  [ "$probe" -ne 0 ] || break
done
[ "$probe" -eq 0 ]
kill -TERM "$server"
ended=0
wait "$server" || ended=$?
trap - EXIT
echo "the server ended with $ended after SIGTERM"
[ "$ended" -eq 0 ]
"""


class DockerfileError(Exception):
    """The Dockerfile has something that this script does not know."""


@dataclass
class Stage:
    """What is between two FROM."""

    name: str
    base: str
    steps: list[tuple[str, str]] = field(default_factory=list)


@dataclass
class Settings:
    """What the instructions of a stage set for those after them."""

    directory: str = "/"
    user: str = "root"
    environment: dict[str, str] = field(default_factory=dict)
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)


def instructions(text: str) -> list[tuple[str, str]]:
    """The instructions of a Dockerfile, each in one line."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    found = []
    for line in joined.splitlines():
        if line.strip():
            name, _, rest = line.strip().partition(" ")
            found.append((name, rest.strip()))
    return found


def stages(text: str) -> list[Stage]:
    """The stages of a Dockerfile.

    Raises:
        DockerfileError: It begins with something else.
    """
    found: list[Stage] = []
    for name, rest in instructions(text):
        if name == "FROM":
            base, _, alias = rest.partition(" AS ")
            found.append(Stage(alias, base))
        elif not found:
            raise DockerfileError(f"{name} before FROM")
        else:
            found[-1].steps.append((name, rest))
    return found


def is_ignored(path: str, patterns: list[str]) -> bool:
    """Whether .dockerignore keeps a file out; the last pattern that matches decides."""
    ignored = False
    parts = path.split("/")
    parents = ["/".join(parts[: count + 1]) for count in range(len(parts))]
    for pattern in patterns:
        negated = pattern.startswith("!")
        body = pattern.lstrip("!")
        names = parts if body.startswith("**/") else parents
        body = body.removeprefix("**/")
        # Without **, a star does not cross a slash.
        if any(
            fnmatch.fnmatch(name, body) and name.count("/") == body.count("/") for name in names
        ):
            ignored = not negated
    return ignored


def ignore_patterns() -> list[str]:
    """The lines of .dockerignore."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def context_files(source: str) -> list[Path]:
    """The files of the checkout that COPY takes for a source.

    Raises:
        DockerfileError: There is none.
    """
    patterns = ignore_patterns()
    path = ROOT / source
    candidates = [path] if path.is_file() else sorted(path.rglob("*"))
    found = [
        item
        for item in candidates
        if item.is_file() and not is_ignored(str(item.relative_to(ROOT)), patterns)
    ]
    if not found:
        raise DockerfileError(f"COPY {source}: nothing is there that .dockerignore lets through")
    return found


def copy(tree: Path, words: list[str], directory: str, trees: dict[str, Path]) -> None:
    """COPY from the checkout, or from an earlier stage."""
    *sources, target = [word for word in words if not word.startswith("--")]
    where = tree / os.path.join(directory, target).lstrip("/")
    flags = [word.partition("=")[2] for word in words if word.startswith("--from=")]
    for source in sources:
        if flags:
            shutil.copytree(trees[flags[0]] / source.lstrip("/"), where, symlinks=True)
            continue
        base = ROOT / source
        for path in context_files(source):
            name = path.relative_to(base) if base.is_dir() else Path(path.name)
            (where / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, where / name)


def size_of(tree: Path) -> int:
    """The bytes that the files of a tree take."""
    done = subprocess.run(
        ["du", "--summarize", "--one-file-system", "--block-size=1", str(tree)],
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout.split()[0])


class Builder:
    """Builds the stages below a cache folder."""

    def __init__(self, cache: Path) -> None:
        self._cache = cache
        self._environment = debian_root.passed_environment(os.environ)
        self._trees: dict[str, Path] = {}
        self._binds: dict[Path, list[debian_root.Bind]] = {}

    def build(self, stage: Stage) -> tuple[Path, Settings, int]:
        """Do the steps of a stage.

        Returns:
            Its tree, what the image runs with, and the bytes that it added.

        Raises:
            DockerfileError: An instruction is not known.
            SetupError: A step failed.
        """
        if stage.base != BASE:
            raise DockerfileError(f"FROM {stage.base}: only {BASE} can be tried")
        tree = self._cache / f"image-{stage.name or 'run'}"
        debian_root.remove(tree)
        bare = self._cache / "bare" / "tree"
        subprocess.run([*debian_root.ISOLATED, "cp", "-a", str(bare), str(tree)], check=True)
        self._binds[tree] = debian_root.prepare(tree, self._cache, self._environment)
        settings = Settings()
        purge = ["apt-get", "-qq", "purge", "-y", "--auto-remove", *NOT_IN_BASE]
        # The base image has no package lists either; with them, it would seem larger than it is.
        clean = f"{shlex.join(purge)} > /dev/null; rm -rf /var/lib/apt/lists/*"
        self.run(tree, clean, settings)
        before = size_of(tree)
        for name, rest in stage.steps:
            print(f"{stage.name or 'run'}: {name} {rest[:100]}", flush=True)
            self._step(tree, name, rest, settings)
        self._trees[stage.name] = tree
        return tree, settings, size_of(tree) - before

    def _step(self, tree: Path, name: str, rest: str, settings: Settings) -> None:
        match name:
            case "RUN":
                self.run(tree, rest, settings)
            case "COPY":
                copy(tree, rest.split(), settings.directory, self._trees)
            case "WORKDIR":
                settings.directory = rest
                (tree / rest.lstrip("/")).mkdir(parents=True, exist_ok=True)
            case "ENV":
                pairs = (word.partition("=") for word in shlex.split(rest))
                settings.environment |= {key: value for key, _, value in pairs}
            case "USER":
                settings.user = rest
            case "ENTRYPOINT":
                settings.entrypoint = json.loads(rest)
            case "CMD":
                settings.command = json.loads(rest)
            case "EXPOSE" | "STOPSIGNAL":
                pass
            case _:
                raise DockerfileError(f"{name} is not known")

    def run(self, tree: Path, command: str, settings: Settings) -> None:
        """Run a command in a tree, as root.

        Raises:
            SetupError: It failed.
        """
        environment = {**self._environment, "DEBIAN_FRONTEND": "noninteractive"}
        environment |= settings.environment
        code = debian_root.enter(tree, self._binds[tree], command, environment, settings.directory)
        if code:
            raise SetupError(f"status {code} of: {command}")

    def clear(self) -> None:
        """Remove the trees."""
        for path in self._cache.glob("image-*"):
            debian_root.remove(path)


def run() -> None:
    """Build every stage and try the last one.

    Raises:
        SetupError: It does not work, or is too large.
    """
    with debian_root.bare_root(SUITE) as cache:
        builder = Builder(cache)
        try:
            for stage in stages((ROOT / "Dockerfile").read_text()):
                tree, settings, added = builder.build(stage)
            print(f"the run image adds {added / 1e6:.0f} MB to {BASE}", flush=True)
            if added > LARGEST:
                raise SetupError(f"at most {LARGEST / 1e6:.0f} MB are wanted")
            words = [settings.user, *settings.entrypoint, *settings.command]
            script = f"set -- {shlex.join(words)}\n{TRY}"
            builder.run(tree, script, settings)
        finally:
            builder.clear()


def main() -> int:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.parse_args()
    try:
        run()
    except (SetupError, DockerfileError, OSError, subprocess.CalledProcessError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
