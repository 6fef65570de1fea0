"""Runs a command on this checkout in a bare Debian, as a new user would.

    debian_root.py SUITE COMMAND      # debian_root.py trixie "make demo"
    debian_root.py --give FILE trixie "ls dist"

SUITE is the codename of a Debian, or of its backports: ``trixie-backports`` is ``trixie`` with the
ngtcp2 of its backports. ``--give`` puts a file of this machine into ``dist/`` of its checkout.
debootstrap creates a root with the base system, git and make, which is kept in
``${XDG_CACHE_HOME:-~/.cache}/pywebtransport``. Each run copies this root, puts the files that git
tracks into the copy, runs COMMAND there with a shell, and removes the copy. COMMAND has to install
everything else. The mirror and options of apt, and the indexes of pip, are those of this machine.
All mounts are made in a mount namespace of the run, and vanish with its last process.

Needs root. Set ``DEBIAN_MIRROR`` if the apt sources of this machine have no Debian mirror.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import system_packages
from system_packages import SetupError, Source

ROOT = Path(__file__).resolve().parent.parent
OS_RELEASE = Path("/etc/os-release")
MOUNTS = Path("/proc/self/mountinfo")
# A root older than this many days is created again, to get newer packages.
MAX_AGE = 14 * 24 * 3600.0
INCLUDED = ["ca-certificates", "git", "make"]
CHECKOUT = "/root/pywebtransport"
BACKPORTS = "-backports"
# They have neither updates nor a suite for security.
UNRELEASED = ("sid", "unstable", "testing")
# What of the backports apt prefers.
PREFERENCES = "Package: src:ngtcp2\nPin: release n={suite}\nPin-Priority: 900\n"
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
PIP_FILES = [".config/pip/pip.conf", ".pip/pip.conf"]
PIP_SYSTEM_FILES = ["/etc/pip.conf", "/etc/xdg/pip/pip.conf"]
# Environment variables that say how to reach packages; all others stay outside.
PASSED = re.compile(r"PIP_\w+|(https?|ftp|all|no)_proxy|SSL_CERT_FILE|SSL_CERT_DIR|CI", re.I)

# When this process ends, all processes that it started end, and then their mounts vanish.
ISOLATED = ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--propagation", "private"]
ISOLATED += ["--pid", "--fork", "--kill-child"]

# Runs as the first process of the namespaces: $1 is the root, $2 lists what to bind there
# (source, tab, target and mode), the rest is the command.
ENTER = r"""
root=$1; binds=$2; shift 2
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for name in null zero full random urandom tty; do
  : > "$root/dev/$name"
  mount --bind "/dev/$name" "$root/dev/$name"
done
ln -s /proc/self/fd "$root/dev/fd"
mkdir "$root/dev/shm" "$root/dev/pts"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
while IFS=$'\t' read -r source target mode; do
  [ -n "$source" ] || continue
  mount --bind "$source" "$root$target"
  [ "$mode" = rw ] || mount -o remount,bind,ro "$root$target"
done <<< "$binds"
exec chroot "$root" "$@"
"""


@dataclass(frozen=True)
class Bind:
    """A path of this machine that is visible in the root."""

    source: Path
    target: str
    writable: bool = False


# --- what apt and pip of this machine say ------------------------------------------


def release_fields(path: Path = OS_RELEASE) -> dict[str, str]:
    """The fields of os-release."""
    lines = (line.partition("=") for line in path.read_text().splitlines())
    return {key: "".join(shlex.split(value)) for key, _, value in lines if value}


def sources_for(suite: str, here: list[Source], codename: str, mirror: str = "") -> list[Source]:
    """The apt sources of a root: those of this machine, with another suite.

    Args:
        suite: Codename of the Debian of the root, perhaps with ``-backports``.
        here: Sources of this machine.
        codename: Codename of this machine if it is a Debian, else "".
        mirror: Taken in place of this machine's own, if given.

    Raises:
        SetupError: There is no mirror of Debian.
    """
    base = suite.removesuffix(BACKPORTS)
    extra = [suite] if suite != base else []
    if mirror:
        return [Source(uris=[mirror], suites=[base, *extra], components=["main"])]
    parts = [""] if base in UNRELEASED else ["", "-updates", "-security"]
    found = []
    for source in here:
        # Backports of this machine are left out: the root is bare.
        kept = [
            base + name.removeprefix(codename)
            for name in source.suites
            if codename and name in [codename + part for part in parts]
        ]
        if base in kept:
            kept += extra
        if kept and "main" in source.components:
            found.append(replace(source, suites=kept, components=["main"]))
    if not any(base in source.suites for source in found):
        raise SetupError(
            "apt of this machine has no source of Debian; name a mirror: DEBIAN_MIRROR=URL"
        )
    return sorted(found, key=lambda source: base not in source.suites)


def stanzas(sources: list[Source]) -> str:
    """The text of a ``.sources`` file."""
    return "\n".join(
        "Types: deb\n"
        f"URIs: {' '.join(source.uris)}\n"
        f"Suites: {' '.join(source.suites)}\n"
        f"Components: {' '.join(source.components)}\n"
        + "".join(f"{key.title()}: {value}\n" for key, value in source.options.items())
        for source in sources
    )


def apt_options(dump: str) -> str:
    """The settings in ``apt-config dump`` about fetching: proxies, checks, time limits."""
    kept = [
        line
        for line in dump.splitlines()
        if line.startswith("Acquire::")
        and not line.startswith(("Acquire::IndexTargets", "Acquire::Changelogs"))
        and not line.endswith('"";')
    ]
    return "".join(f"{line}\n" for line in kept)


def local_paths(text: str) -> list[Path]:
    """The files and folders of this machine that a pip configuration or variable names."""
    words = (word.removeprefix("file://") for word in re.split(r"[\s=,]+", text))
    found = dict.fromkeys(Path(word) for word in words if word.startswith("/"))
    # An index is a folder of links to files that may be beside it.
    roots = [path.parent if path.name == "simple" else path for path in found]
    return [path for path in dict.fromkeys(roots) if path.exists() and len(path.parts) > 2]


def pip_files(home: Path) -> dict[str, Path]:
    """Configuration files of pip: path in the root, path here."""
    files = {name: Path(name) for name in PIP_SYSTEM_FILES}
    files |= {f"/root/{name}": home / name for name in PIP_FILES}
    return {target: path for target, path in files.items() if path.is_file()}


def passed_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment variables of a root."""
    kept = {key: value for key, value in environment.items() if PASSED.fullmatch(key)}
    kept.pop("PIP_CACHE_DIR", None)
    return {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "TERM": environment.get("TERM", "dumb"),
        **kept,
    }


# --- the root --------------------------------------------------------------------------


def remove(path: Path) -> None:
    """Remove a tree in which nothing is mounted.

    Raises:
        SetupError: A file system is mounted in it.
    """
    real = str(path.resolve())
    points = [line.split()[4] for line in MOUNTS.read_text().splitlines()]
    inside = [point for point in points if point == real or point.startswith(f"{real}/")]
    if inside:
        raise SetupError(f"{inside[0]} is a mount; unmount it, then remove {path} by hand")
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)


def put(root: Path, target: str, text: str) -> None:
    """Write a file of a root."""
    path = root / target.lstrip("/")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_text(text)


def is_usable(root: Path, recipe: str) -> bool:
    """Whether a root is complete, recent, and made from these sources."""
    marker = root / "recipe"
    try:
        if marker.read_text() != recipe or time.time() - marker.stat().st_mtime > MAX_AGE:
            return False
    except OSError:
        return False
    tried = [str(root / "tree"), "make", "--version"]
    return subprocess.run(["chroot", *tried], capture_output=True, check=False).returncode == 0


def make_root(place: Path, suite: str, sources: list[Source], options: str) -> None:
    """Run debootstrap, unless ``place`` has a good root already.

    Raises:
        SetupError: debootstrap failed.
    """
    recipe = "\n".join([suite, stanzas(sources), options, *INCLUDED])
    if is_usable(place, recipe):
        return
    print(f"making a bare {suite} in {place}", flush=True)
    remove(place)
    place.mkdir(parents=True)
    first = sources[0]
    command = ["debootstrap", "--variant=minbase", f"--include={','.join(INCLUDED)}"]
    key = first.options.get("signed-by", "")
    if key.startswith("/"):
        command.append(f"--keyring={key}")
    if first.options.get("trusted", "no") == "yes":
        command.append("--no-check-gpg")
    tree = place / "tree"
    log = place / "debootstrap.log"
    environment = dict(os.environ)
    for scheme in ("http", "https"):
        if proxy := re.search(rf'^Acquire::{scheme}::Proxy "(.*)";$', options, re.M):
            environment.setdefault(f"{scheme}_proxy", proxy[1])
    with log.open("w") as output:
        done = subprocess.run(
            [*ISOLATED, *command, suite.removesuffix(BACKPORTS), str(tree), first.uris[0]],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            check=False,
        )
    if done.returncode != 0:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise SetupError(f"debootstrap failed, see {log}:\n{tail}")
    put(tree, "/etc/apt/sources.list", "")
    put(tree, "/etc/apt/sources.list.d/debian.sources", stanzas(sources))
    put(tree, "/etc/apt/apt.conf.d/90host", options)
    if suite.endswith(BACKPORTS):
        put(tree, "/etc/apt/preferences.d/backports", PREFERENCES.format(suite=suite))
    for source in sources:
        key = source.options.get("signed-by", "")
        if key.startswith("/") and not (tree / key.lstrip("/")).exists():
            put(tree, key, "")
            shutil.copy(key, tree / key.lstrip("/"))
    (place / "recipe").write_text(recipe)


def copy_checkout(tree: Path) -> None:
    """Put the files that git tracks into a root, as they are now.

    Raises:
        SetupError: This is not a git checkout.
    """
    listing = subprocess.run(
        ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if listing.returncode != 0:
        raise SetupError(f"git lists no files of {ROOT}: {listing.stderr.decode().strip()}")
    for name in listing.stdout.decode().split("\0"):
        source = ROOT / name
        if name and (source.is_file() or source.is_symlink()):
            target = tree / CHECKOUT.lstrip("/") / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target, follow_symlinks=False)


def prepare(tree: Path, cache: Path, environment: Mapping[str, str]) -> list[Bind]:
    """Give a fresh copy what it needs to reach packages.

    Returns:
        The paths of this machine that have to be visible in it.
    """
    for name in ("/etc/resolv.conf", "/etc/hosts", CERTIFICATES):
        if Path(name).is_file():
            put(tree, name, Path(name).read_text())
    named = [value for key, value in environment.items() if key.startswith("PIP_")]
    for target, path in pip_files(Path.home()).items():
        put(tree, target, path.read_text())
        named.append(path.read_text())
    binds = [Bind(path, str(path)) for text in named for path in local_paths(text)]
    # Leave out what the root has itself.
    binds = [bind for bind in binds if not (tree / bind.target.lstrip("/")).exists()]
    for name, target in (("packages", "/var/cache/apt/archives"), ("pip", "/root/.cache/pip")):
        (cache / name).mkdir(parents=True, exist_ok=True)
        binds.append(Bind(cache / name, target, writable=True))
    for bind in dict.fromkeys(binds):
        point = tree / bind.target.lstrip("/")
        if bind.source.is_dir():
            point.mkdir(parents=True, exist_ok=True)
        else:
            put(tree, bind.target, "")
    return list(dict.fromkeys(binds))


def enter(
    tree: Path,
    binds: list[Bind],
    command: str,
    environment: Mapping[str, str],
    directory: str = CHECKOUT,
) -> int:
    """Run a shell command in a directory of a root; return its exit code."""
    lines = [f"{bind.source}\t{bind.target}\t{'rw' if bind.writable else 'ro'}" for bind in binds]
    inside = ["/bin/bash", "-euo", "pipefail", "-c", f"cd {directory}\n{command}"]
    shell = ["bash", "-euo", "pipefail", "-c", ENTER, "enter", str(tree), "\n".join(lines)]
    variables = [f"{key}={value}" for key, value in environment.items()]
    done = subprocess.run(
        [*ISOLATED, *shell, "/usr/bin/env", "-i", *variables, *inside],
        stdin=subprocess.DEVNULL,
        check=False,
    )
    return done.returncode


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Allow only one run at a time."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for another run ({path})", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def run(suite: str, command: str, given: Sequence[Path] = ()) -> int:
    """Do it all; return the exit code of the command.

    Args:
        suite: Of Debian.
        command: For a shell in the checkout.
        given: Files for the folder ``dist`` of the checkout.

    Raises:
        SetupError: The root could not be created, or a file is not there.
    """
    for path in given:
        if not path.is_file():
            raise SetupError(f"{path} is not a file")
    environment = passed_environment(os.environ)
    with bare_root(suite) as cache:
        tree = cache / "run"
        remove(tree)
        try:
            copy = ["cp", "-a", str(cache / "bare" / "tree"), str(tree)]
            subprocess.run([*ISOLATED, *copy], check=True)
            copy_checkout(tree)
            for path in given:
                target = tree / CHECKOUT.lstrip("/") / "dist"
                target.mkdir(exist_ok=True)
                shutil.copy(path, target)
            binds = prepare(tree, cache, environment)
            started = time.monotonic()
            code = enter(tree, binds, command, environment)
            print(f"{suite}: exit code {code} after {time.monotonic() - started:.0f} s", flush=True)
            return code
        finally:
            remove(tree)


@contextlib.contextmanager
def bare_root(suite: str) -> Iterator[Path]:
    """Make sure that there is a bare root, and keep other runs away from it.

    Yields:
        The folder with the root ``bare/tree``, in which a run may make others.

    Raises:
        SetupError: The root could not be created.
    """
    if os.geteuid() != 0:
        raise SetupError("debootstrap, mount and chroot need root: run this with sudo")
    system_packages.set_up(["debian-root"])
    fields = release_fields()
    codename = fields.get("VERSION_CODENAME", "") if fields.get("ID") == "debian" else ""
    here = system_packages.read_sources(system_packages.APT_DIRECTORY)
    sources = sources_for(suite, here, codename, os.environ.get("DEBIAN_MIRROR", ""))
    options = ""
    if shutil.which("apt-config"):
        dump = ["apt-config", "dump"]
        options = apt_options(subprocess.run(dump, capture_output=True, text=True).stdout)
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pywebtransport"
    cache = base / suite
    cache.mkdir(parents=True, exist_ok=True)
    with locked(cache / "lock"):
        make_root(cache / "bare", suite, sources, options)
        yield cache


def main() -> int:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("suite", help="bookworm, trixie, trixie-backports, sid, ...")
    parser.add_argument("command", help="what the shell runs in the checkout")
    parser.add_argument("--give", type=Path, action="append", default=[], metavar="FILE")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # and clean up
    try:
        return run(arguments.suite, arguments.command, arguments.give)
    except KeyboardInterrupt:
        return 130
    except (SetupError, OSError, subprocess.CalledProcessError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
