"""What a bare root takes over from this machine, and what is never removed."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.scripts import load_script

packages = load_script("system_packages")
debian_root = load_script("debian_root")

SOURCES = """\
Types: deb
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/mirror.gpg

Types: deb
URIs: http://security.example/debian-security
Suites: bookworm-security
Components: main

Types: deb
URIs: http://mirror.example/debian
Suites: bookworm-backports
Components: main

Types: deb
URIs: http://other.example/tools
Suites: stable
Components: main
"""


def test_the_root_has_this_machines_mirror_with_its_own_suite() -> None:
    here = packages.parse_deb822(SOURCES)
    found = debian_root.sources_for("trixie", here, "bookworm")
    assert [(source.uris, source.suites, source.components) for source in found] == [
        (["http://mirror.example/debian"], ["trixie", "trixie-updates"], ["main"]),
        (["http://security.example/debian-security"], ["trixie-security"], ["main"]),
    ]
    assert found[0].options == {"signed-by": "/usr/share/keyrings/mirror.gpg"}
    assert packages.parse_deb822(debian_root.stanzas(found)) == found


def test_the_source_with_the_suite_itself_comes_first() -> None:
    here = packages.parse_deb822("\n\n".join(reversed(SOURCES.split("\n\n"))))
    found = debian_root.sources_for("trixie", here, "bookworm")
    assert found[0].suites == ["trixie", "trixie-updates"]


def test_a_machine_without_a_debian_mirror_says_what_to_give() -> None:
    here = packages.parse_deb822(SOURCES)
    for codename in ("", "noble"):
        with pytest.raises(packages.SetupError, match="DEBIAN_MIRROR=URL"):
            debian_root.sources_for("trixie", here, codename)
    (given,) = debian_root.sources_for("trixie", here, "", "http://given.example/debian")
    assert (given.uris, given.suites) == (["http://given.example/debian"], ["trixie"])


def test_backports_stand_beside_their_release() -> None:
    here = packages.parse_deb822(SOURCES)
    first, security = debian_root.sources_for("trixie-backports", here, "bookworm")
    assert first.suites == ["trixie", "trixie-updates", "trixie-backports"]
    assert security.suites == ["trixie-security"]
    mirror = "http://given.example/debian"
    (given,) = debian_root.sources_for("trixie-backports", here, "", mirror)
    assert given.suites == ["trixie", "trixie-backports"]


def test_what_is_not_released_has_one_suite() -> None:
    (only,) = debian_root.sources_for("sid", packages.parse_deb822(SOURCES), "bookworm")
    assert only.suites == ["sid"]


def test_a_file_to_give_has_to_be_there(tmp_path: Path) -> None:
    with pytest.raises(packages.SetupError, match=r"none\.whl is not a file"):
        debian_root.run("trixie", "true", [tmp_path / "none.whl"])


def test_only_how_to_fetch_is_taken_of_apts_options() -> None:
    dump = """\
APT::Architecture "amd64";
Acquire "";
Acquire::http "";
Acquire::http::Proxy "http://proxy.example:3128";
Acquire::Check-Valid-Until "false";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
DPkg::Post-Invoke:: "/usr/bin/something";
"""
    assert debian_root.apt_options(dump) == (
        'Acquire::http::Proxy "http://proxy.example:3128";\nAcquire::Check-Valid-Until "false";\n'
    )


def test_local_paths_of_pip_are_found(tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    index = tmp_path / "index" / "simple"
    limits = tmp_path / "limits.txt"
    wheels.mkdir()
    index.mkdir(parents=True)
    limits.touch()
    text = (
        f"[global]\nfind-links = {wheels}\nconstraint={limits}\n"
        f"extra-index-url = file://{index} https://index.example/simple file:///nowhere/simple\n"
    )
    # The files of an index may lie beside it.
    assert debian_root.local_paths(text) == [wheels, limits, index.parent]
    assert debian_root.local_paths("/ /etc") == []


def test_only_how_to_reach_packages_is_passed_on() -> None:
    here = {
        "PIP_INDEX_URL": "https://index.example/simple",
        "PIP_CACHE_DIR": "/home/me/.cache/pip",
        "https_proxy": "http://proxy.example",
        "NO_PROXY": "localhost",
        "SSL_CERT_FILE": "/etc/ssl/certs/ca-certificates.crt",
        "MY_TOKEN": "secret",
        "PATH": "/home/me/bin",
        "TERM": "xterm",
        "VIRTUAL_ENV": "/home/me/venv",
    }
    passed = debian_root.passed_environment(here)
    assert set(passed) == {
        *("PATH", "HOME", "LANG", "TERM"),
        *("PIP_INDEX_URL", "https_proxy", "NO_PROXY", "SSL_CERT_FILE"),
    }
    assert passed["HOME"] == "/root"
    assert "/home/me" not in "".join(passed.values())


def test_nothing_is_removed_through_a_mount(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = tmp_path / "run"
    (tree / "dev").mkdir(parents=True)
    (tree / "dev" / "precious").touch()
    table = tmp_path / "mountinfo"
    monkeypatch.setattr(debian_root, "MOUNTS", table)
    table.write_text(f"36 35 0:5 / {tree}/dev rw,relatime - devtmpfs devtmpfs rw\n")
    with pytest.raises(packages.SetupError, match=f"{tree}/dev is a mount; unmount it"):
        debian_root.remove(tree)
    assert (tree / "dev" / "precious").exists()
    table.write_text(f"36 35 0:5 / {tree}-other rw,relatime - devtmpfs devtmpfs rw\n")
    debian_root.remove(tree)
    assert not tree.exists()
    debian_root.remove(tree)  # nothing to do


def test_a_root_is_used_again_only_if_it_is_whole_young_and_the_same(
    tmp_path: Path,
) -> None:
    assert not debian_root.is_usable(tmp_path, "recipe")
    marker = tmp_path / "recipe"
    marker.write_text("another recipe")
    assert not debian_root.is_usable(tmp_path, "recipe")
    marker.write_text("recipe")
    assert not debian_root.is_usable(tmp_path, "recipe")  # no tree: the command does not run
    old = marker.stat().st_mtime - debian_root.MAX_AGE - 1
    os.utime(marker, (old, old))
    assert not debian_root.is_usable(tmp_path, "recipe")


def test_a_checkout_is_copied_as_git_tracks_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With changes that are not committed yet, without what a build left."""
    checkout = tmp_path / "checkout"
    (checkout / "folder").mkdir(parents=True)
    (checkout / "folder" / "program").write_text("old")
    (checkout / "folder" / "program").chmod(0o755)
    (checkout / "removed").touch()
    (checkout / "link").symlink_to("folder/program")
    for command in (["init", "--quiet"], ["add", "--all"]):
        subprocess.run(["git", *command], cwd=checkout, check=True)
    (checkout / "folder" / "program").write_text("new")
    (checkout / "removed").unlink()
    (checkout / "built.so").touch()
    monkeypatch.setattr(debian_root, "ROOT", checkout)
    debian_root.copy_checkout(tmp_path)
    copied = tmp_path / "root" / "pywebtransport"
    assert sorted(path.name for path in copied.rglob("*")) == ["folder", "link", "program"]
    assert (copied / "link").read_text() == "new"
    assert os.access(copied / "folder" / "program", os.X_OK)


def test_a_folder_that_git_does_not_know_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(debian_root, "ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(packages.SetupError, match="git lists no files of"):
        debian_root.copy_checkout(tmp_path)


def test_who_is_not_root_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr("sys.argv", ["debian_root.py", "trixie", "true"])
    assert debian_root.main() == 1
    assert "need root: run this with sudo" in capsys.readouterr().err
