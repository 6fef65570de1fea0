"""How the set-up script reads apt sources and what it would add."""

from pathlib import Path

import pytest

from tests.support.scripts import load_script

packages = load_script("system_packages")

DEB822 = """\
# a comment
Types: deb deb-src
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://security.example/debian-security
Suites: bookworm-security
Components: main

Types: deb
Enabled: no
URIs: http://off.example/debian
Suites: bookworm-backports
Components: main

Types: deb-src
URIs: http://src.example/debian
Suites: bookworm
Components: main
"""

ONE_LINE = """\
# deb http://commented.example/debian bookworm main
deb-src http://src.example/debian bookworm main
deb [arch=amd64,arm64 signed-by=/k.gpg] http://mirror.example/debian bookworm main contrib # here
deb http://security.example/debian-security bookworm-security main
"""


def test_deb822_stanzas_are_read_and_disabled_ones_are_not() -> None:
    sources = packages.parse_deb822(DEB822)
    assert [source.suites for source in sources] == [
        ["bookworm", "bookworm-updates"],
        ["bookworm-security"],
    ]
    assert sources[0].uris == ["http://mirror.example/debian"]
    assert sources[0].components == ["main", "contrib"]
    assert sources[0].options == {"signed-by": "/usr/share/keyrings/debian-archive-keyring.gpg"}


def test_deb822_keeps_an_embedded_key_whole() -> None:
    key = "\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abc\n -----END PGP PUBLIC KEY BLOCK-----"
    text = f"Types: deb\nURIs: http://m/debian\nSuites: bookworm\nComponents: main\nSigned-By:{key}"
    (source,) = packages.parse_deb822(text)
    assert source.options["signed-by"] == key
    again = packages.parse_deb822(packages.backports_stanza([source], "bookworm"))
    assert again[0].options["signed-by"].split() == key.split()


def test_one_line_sources_are_read_with_their_options() -> None:
    first, second = packages.parse_one_line(ONE_LINE)
    assert first.uris == ["http://mirror.example/debian"]
    assert first.suites == ["bookworm"]
    assert first.components == ["main", "contrib"]
    assert first.options == {"architectures": "amd64 arm64", "signed-by": "/k.gpg"}
    assert second.suites == ["bookworm-security"]


@pytest.mark.parametrize("text", [DEB822, ONE_LINE], ids=["deb822", "one-line"])
def test_backports_come_from_the_mirror_that_the_machine_uses(text: str) -> None:
    parse = packages.parse_deb822 if text is DEB822 else packages.parse_one_line
    stanza = packages.backports_stanza(parse(text), "bookworm")
    (source,) = packages.parse_deb822(stanza)
    assert source.uris == ["http://mirror.example/debian"]
    assert source.suites == ["bookworm-backports"]
    assert source.components == ["main"]
    assert "signed-by" in source.options


def test_backports_are_added_only_once() -> None:
    sources = packages.parse_deb822(DEB822)
    added = packages.parse_deb822(packages.backports_stanza(sources, "bookworm"))
    assert packages.backports_stanza(sources + added, "bookworm") is None


def test_machine_without_a_debian_source_is_told_so() -> None:
    with pytest.raises(packages.SetupError, match="no apt source for 'bookworm'"):
        packages.backports_stanza([], "bookworm")


def test_all_files_below_the_apt_directory_are_read(tmp_path: Path) -> None:
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list").write_text("deb http://a.example/debian bookworm main\n")
    (tmp_path / "sources.list.d" / "b.list").write_text("deb http://b.example/x stable main\n")
    (tmp_path / "sources.list.d" / "c.sources").write_text(DEB822)
    (tmp_path / "sources.list.d" / "d.list.disabled").write_text("deb http://d.example/x s main\n")
    uris = [uri for source in packages.read_sources(tmp_path) for uri in source.uris]
    assert uris == [
        "http://a.example/debian",
        "http://b.example/x",
        "http://mirror.example/debian",
        "http://security.example/debian-security",
    ]
