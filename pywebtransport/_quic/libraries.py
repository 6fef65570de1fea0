"""The system libraries at run time; written by scripts/sync_libraries.py.

The record, with comments, is vendor/libraries.toml of the source tree.
"""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = ["DISTRIBUTIONS", "LIBRARIES", "Distribution", "Library"]


class Library(NamedTuple):
    """A library that the engine is linked with; ``runtime`` has its package per distribution."""

    name: str
    library: str
    symbols: str
    minimum: str
    runtime: dict[str, str]


class Distribution(NamedTuple):
    """``id`` and ``version`` are those of os-release; without version, any other one."""

    key: str
    id: str
    version: str
    install: str


LIBRARIES: Final = [
    Library(
        name="ngtcp2",
        library="libngtcp2.so",
        symbols="ngtcp2_",
        minimum="1.11.0",
        runtime={
            "debian-12": "libngtcp2-{soversion}",
            "debian": "libngtcp2-{soversion}",
            "ubuntu": "libngtcp2-{soversion}",
            "fedora": "ngtcp2",
            "alpine": "ngtcp2",
            "arch": "libngtcp2",
        },
    ),
    Library(
        name="ngtcp2's GnuTLS helper",
        library="libngtcp2_crypto_gnutls.so",
        symbols="ngtcp2_crypto_",
        minimum="1.11.0",
        runtime={
            "debian-12": "libngtcp2-crypto-gnutls{soversion}",
            "debian": "libngtcp2-crypto-gnutls{soversion}",
            "ubuntu": "libngtcp2-crypto-gnutls{soversion}",
            "fedora": "ngtcp2-crypto-gnutls",
            "alpine": "ngtcp2-gnutls",
            "arch": "libngtcp2",
        },
    ),
    Library(
        name="GnuTLS",
        library="libgnutls.so",
        symbols="gnutls_",
        minimum="3.7.2",
        runtime={
            "debian-12": "libgnutls{soversion}",
            "debian": "libgnutls{soversion}t64",
            "ubuntu": "libgnutls{soversion}t64",
            "fedora": "gnutls",
            "alpine": "gnutls",
            "arch": "gnutls",
        },
    ),
]

DISTRIBUTIONS: Final = [
    Distribution(
        key="debian-12",
        id="debian",
        version="12",
        install="apt install -t bookworm-backports",
    ),
    Distribution(
        key="debian",
        id="debian",
        version="",
        install="apt install",
    ),
    Distribution(
        key="ubuntu",
        id="ubuntu",
        version="",
        install="apt install",
    ),
    Distribution(
        key="fedora",
        id="fedora",
        version="",
        install="dnf install",
    ),
    Distribution(
        key="alpine",
        id="alpine",
        version="",
        install="apk add",
    ),
    Distribution(
        key="arch",
        id="arch",
        version="",
        install="pacman -S --needed",
    ),
]
