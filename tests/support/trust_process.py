"""A client that trusts what the system trusts, in a file system made for it.

``python -m tests.support.trust_process CERTFILE KEYFILE AUTHORITY BUNDLE...`` runs with an ``/etc``
of its own. It serves with the certificate and connects without naming a CA file: with the authority
at each of the paths BUNDLE in turn, with the variables that OpenSSL reads, with certifi, and with
nothing. It prints one line of JSON: for each situation, "" or the error.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pywebtransport import WebTransportError, connect, serve
from pywebtransport.session import WebTransportSession

# A package of the name certifi that stands where Python looks first.
_CERTIFI = "def where():\n    return {path!r}\n"


async def handler(session: WebTransportSession) -> None:
    """Answer nothing: the handshake is what counts."""
    await session.wait_closed()


async def tried(url: str) -> str:
    """Connect once; return the name and text of the error, or ""."""
    try:
        async with connect(url):
            return ""
    except WebTransportError as error:
        return f"{type(error).__name__}: {error}"


@contextmanager
def placed(authority: str, path: Path) -> Iterator[None]:
    """Put a copy of the authority at a path for a while."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(authority, path)
    try:
        yield
    finally:
        path.unlink()


@contextmanager
def environment(**variables: str) -> Iterator[None]:
    """Set variables for a while."""
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables:
            del os.environ[name]


async def main(certfile: str, keyfile: str, authority: str, *bundles: str) -> None:
    """Try every situation."""
    found: dict[str, str] = {}
    place = Path("/etc/private")
    async with serve(handler, "localhost", 0, certfile=certfile, keyfile=keyfile) as server:
        found["nothing"] = await tried(server.url)
        for bundle in bundles:
            with placed(authority, Path(bundle)):
                found[bundle] = await tried(server.url)
        with placed(authority, place / "ca.pem"):
            with environment(SSL_CERT_FILE=str(place / "ca.pem")):
                found["file"] = await tried(server.url)
            (place / "0123abcd.0").symlink_to("ca.pem")
            with environment(SSL_CERT_DIR=f"/etc/missing:{place}"):
                found["directory"] = await tried(server.url)
            with environment(SSL_CERT_FILE="/etc/missing.pem"):
                found["missing file"] = await tried(server.url)
            with environment(SSL_CERT_DIR="/etc/missing"):
                found["missing directory"] = await tried(server.url)
            (place / "certifi.py").write_text(_CERTIFI.format(path=str(place / "ca.pem")))
            sys.path.insert(0, str(place))
            sys.modules.pop("certifi", None)
            found["certifi"] = await tried(server.url)
    print(json.dumps(found))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
