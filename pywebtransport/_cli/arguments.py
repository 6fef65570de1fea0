"""Options that verbs share, and types of arguments that say what is accepted."""

from __future__ import annotations

import argparse
import os
import re
from typing import Any

from ..config import ClientConfig
from ..constants import LOG_LEVELS
from ..exceptions import ConfigurationError
from ..utils._checks import NEVER
from ..utils._urls import parse_webtransport_url
from .certificates import kept_hashes
from .logs import configure_logging

__all__ = [
    "add_client_options",
    "add_json_option",
    "add_log_options",
    "add_verb_parser",
    "client_config",
    "configure_client_logging",
    "count",
    "port",
    "seconds",
    "size",
    "take_key_log",
]

_UNITS = {"": 1, "B": 1, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30}
_SIZE = re.compile(r"([0-9]{1,15})\s*([A-Za-z]*)")


def add_verb_parser(verbs: Any, name: str, summary: str, **options: Any) -> argparse.ArgumentParser:
    """Add the parser of a verb.

    Args:
        verbs: What ``add_subparsers`` returned.
        name: The verb.
        summary: One line for the list of verbs, and the beginning of its help.
        **options: Further arguments of ``ArgumentParser``.
    """
    options.setdefault("description", f"{summary[0].upper()}{summary[1:]}.")
    parser: argparse.ArgumentParser = verbs.add_parser(
        name,
        help=summary,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        **options,
    )
    return parser


def add_client_options(parser: argparse.ArgumentParser, *, timeout: float = 10.0) -> None:
    """Add the options of verbs that connect to a server."""
    parser.add_argument("url", metavar="URL", type=url, help="https://host[:port]/path")
    trust = parser.add_argument_group("which certificate to trust (default: the system's roots)")
    trust.add_argument(
        "--certificate-hash",
        metavar="SHA256",
        action="append",
        default=[],
        help="accept the certificate with this hash (hex or base64); may be repeated",
    )
    trust.add_argument("--ca", metavar="FILE", help="trust these authorities (PEM) instead")
    trust.add_argument(
        "--dev",
        action="store_true",
        help="accept the development certificates that 'serve' keeps for you on this machine",
    )
    identity = parser.add_argument_group("certificate of this client, if the server wants one")
    identity.add_argument(
        "--client-cert", metavar="FILE", help="certificate chain, leaf first (PEM)"
    )
    identity.add_argument("--client-key", metavar="FILE", help="its key (PEM)")
    how = parser.add_argument_group("how to connect")
    how.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=seconds,
        default=timeout,
        help="time for everything up to the server's answer (default: %(default)g)",
    )
    how.add_argument(
        "--header",
        metavar="'NAME: VALUE'",
        type=header,
        action="append",
        default=[],
        help="send this header field with the request; may be repeated",
    )
    how.add_argument(
        "--protocol",
        metavar="NAME",
        action="append",
        default=[],
        help="offer this application protocol; may be repeated",
    )
    how.add_argument(
        "--fallback",
        action="store_true",
        help="where QUIC does not get through, use a WebSocket over TCP",
    )
    how.add_argument(
        "--fallback-proxy",
        metavar="URL",
        help="the same, by TCP through an HTTP proxy: http://[user:password@]host[:port]",
    )
    family = how.add_mutually_exclusive_group()
    for digit in "46":
        family.add_argument(
            f"-{digit}",
            dest="ip_family",
            action="store_const",
            const=f"ipv{digit}",
            default="any",
            help=f"use IPv{digit} only",
        )
    add_log_options(parser, "WARNING")


def add_log_options(parser: argparse.ArgumentParser, default: str) -> None:
    """Add the options of the log, which goes to standard error.

    Args:
        parser: The parser.
        default: The level when none is given, for the help text.
    """
    logs = parser.add_argument_group("log (on standard error)")
    logs.add_argument(
        "--log-level",
        metavar="LEVEL",
        type=str.upper,
        choices=LOG_LEVELS,
        help=f"debug, info, warning, error or critical (default: {default.lower()})",
    )
    logs.add_argument("--json-logs", action="store_true", help="log lines of JSON")


def add_json_option(parser: argparse.ArgumentParser, what: str) -> None:
    """Add ``--json``.

    Args:
        parser: The parser.
        what: What is printed as JSON.
    """
    parser.add_argument("--json", action="store_true", help=f"print {what} as JSON")


def configure_client_logging(arguments: argparse.Namespace) -> None:
    """Configure the log of a verb that connects to a server."""
    configure_logging(arguments.log_level or "WARNING", json_lines=arguments.json_logs)


def client_config(arguments: argparse.Namespace, **fields: Any) -> ClientConfig:
    """Return the configuration that the options of ``add_client_options`` describe.

    Args:
        arguments: The parsed command line.
        **fields: Further fields of ``ClientConfig``.

    Raises:
        ConfigurationError: An option has a value that cannot be used.
    """
    if (arguments.client_cert is None) != (arguments.client_key is None):
        raise ConfigurationError("--client-cert and --client-key belong together")
    hashes = [*arguments.certificate_hash, *(kept_hashes() if arguments.dev else [])]
    headers: dict[str, list[str]] = {}
    for name, value in arguments.header:
        headers.setdefault(name, []).append(value)
    config = ClientConfig.create(
        server_certificate_hashes=hashes,
        ca_certs=arguments.ca,
        certfile=arguments.client_cert,
        keyfile=arguments.client_key,
        connect_timeout=arguments.timeout,
        headers=headers,
        application_protocols=arguments.protocol,
        fallback="websocket" if arguments.fallback or arguments.fallback_proxy else None,
        fallback_proxy=arguments.fallback_proxy,
        ip_family=arguments.ip_family,
        keylog_file=take_key_log(),
    )
    config = config.update(**fields)
    config.validate()
    return config


def take_key_log() -> str | None:
    """The file that ``SSLKEYLOGFILE`` names; call it before the first connection.

    GnuTLS would append the secrets, too, and create a file that others may be able to read. So the
    variable is removed.
    """
    return os.environ.pop("SSLKEYLOGFILE", None) or None


def url(text: str) -> str:
    """The URL of a session.

    Raises:
        ArgumentTypeError: It is not one.
    """
    try:
        parse_webtransport_url(text)
    except ConfigurationError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def header(text: str) -> tuple[str, str]:
    """A header field, as a name and a value.

    Raises:
        ArgumentTypeError: There is no colon.
    """
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise argparse.ArgumentTypeError(f"header {text!r}: expected 'name: value'")
    return name.strip().lower(), value.strip()


def port(text: str) -> int:
    """A UDP port.

    Raises:
        ArgumentTypeError: It is not a number from 0 to 65535.
    """
    if not (text.isascii() and text.isdigit()) or int(text[:6]) > 65535:
        raise argparse.ArgumentTypeError(f"port {text!r}: expected a number from 0 to 65535")
    return int(text)


def count(text: str) -> int:
    """A number of things, at least 0.

    Raises:
        ArgumentTypeError: It is not one, or above a million.
    """
    if not (text.isascii() and text.isdigit()) or int(text[:8]) > 1_000_000:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number from 0 to 1000000")
    return int(text)


def seconds(text: str) -> float:
    """A duration.

    Raises:
        ArgumentTypeError: It is not a number above 0.
    """
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= NEVER:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number of seconds above 0")
    return value


def size(text: str) -> int:
    """A number of bytes, such as ``4096``, ``64KiB`` or ``1MiB``.

    Raises:
        ArgumentTypeError: It is not a number of bytes, KiB, MiB or GiB, or 0.
    """
    found = _SIZE.fullmatch(text.strip())
    unit = _UNITS.get(found[2].upper()) if found else None
    if found is None or unit is None or int(found[1]) == 0:
        raise argparse.ArgumentTypeError(
            f"size {text!r}: expected a number like 1000, 512KiB, 256MiB or 1GiB"
        )
    return int(found[1]) * unit
