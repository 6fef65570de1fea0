"""``pywebtransport serve``: runs an application."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path
from typing import Any

from .._states import Address
from .._version import __version__
from ..config import ServerConfig
from ..exceptions import ConfigurationError, ServerError, WebTransportError
from ..server import ServerApp
from ..utils._text import printable
from ..utils._urls import build_webtransport_url
from .apps import describe_failure, load_app
from .arguments import (
    add_json_option,
    add_log_options,
    add_verb_parser,
    count,
    port,
    take_key_log,
)
from .certificates import (
    CertificateFacts,
    development_certificate,
    javascript_line,
    read_certificate,
)
from .logs import configure_logging
from .output import Output, print_json
from .reloading import run_with_reload
from .status import Status

__all__ = ["add_verb"]

# Hosts that stand for every address of this machine.
_ALL = ("", "0.0.0.0", "::")

_logger = logging.getLogger("pywebtransport.server")


def add_verb(verbs: Any) -> None:
    """Add the parser of this verb."""
    parser = add_verb_parser(
        verbs,
        "serve",
        "run an application",
        description="Run an application until Ctrl-C or SIGTERM, then shut it down gracefully.",
        epilog=(
            "If neither the application nor --certfile gives a certificate, one for\n"
            "development is made, and kept in your cache directory while it is valid."
        ),
    )
    parser.add_argument(
        "target",
        metavar="MODULE:NAME",
        help="the ServerApp or ASGI application, such as shop:app",
    )
    parser.add_argument(
        "--factory", action="store_true", help="NAME is a function that returns the application"
    )
    parser.add_argument(
        "--host", help="name or address to listen on (default: what the application says)"
    )
    parser.add_argument("--port", type=port, help="UDP and TCP port; 0 means a free one")
    parser.add_argument("--certfile", metavar="FILE", help="PEM file of the chain, leaf first")
    parser.add_argument("--keyfile", metavar="FILE", help="PEM file of its key")
    parser.add_argument(
        "--tcp",
        action=argparse.BooleanOptionalAction,
        help="HTTP/1.1 and WebSocket on the TCP port of the same number (default: for ASGI "
        "applications; a ServerApp decides itself)",
    )
    parser.add_argument("--http2", action="store_true", help="HTTP/2 over TCP, too")
    parser.add_argument(
        "--websocket",
        action="store_true",
        help="WebTransport over TCP, too (QMux in WebSockets), for clients without UDP",
    )
    parser.add_argument("--workers", metavar="N", type=count, help="processes that share the port")
    parser.add_argument(
        "--reload",
        action="store_true",
        help="restart when a Python file in the working directory or below changes",
    )
    # For the process that --reload starts: it ends without draining.
    parser.add_argument("--reloaded", action="store_true", help=argparse.SUPPRESS)
    add_json_option(parser, "the banner")
    add_log_options(parser, "the application's log_level, normally info")
    parser.set_defaults(run=run, fail=parser.error)


def run(arguments: argparse.Namespace) -> int:
    """Run the application, or with ``--reload`` a process that does."""
    if (arguments.certfile is None) != (arguments.keyfile is None):
        arguments.fail("--certfile and --keyfile belong together")
    if arguments.http2 and arguments.tcp is False:
        arguments.fail("--http2 needs TCP: leave out --no-tcp")
    if arguments.reload:
        if (arguments.workers or 1) > 1:
            arguments.fail("--reload works with one process: leave out --workers")
        words = ["--reloaded" if word == "--reload" else word for word in arguments.words]
        return run_with_reload(words, Path.cwd())
    sys.argv = [arguments.target]  # the application must not take the arguments for its own
    app = _application(arguments)
    config = app.server.config
    configure_logging(arguments.log_level or config.log_level, json_lines=arguments.json_logs)
    fields, is_development = _fields(arguments, config)
    config = config.update(**fields)
    over_tcp = _over_tcp(app, config)
    has_pages = bool(over_tcp) and app.server.tcp.application is not None
    banner = _Banner(arguments, config, is_development, over_tcp, has_pages=has_pages)
    try:
        app.run(host=arguments.host, port=arguments.port, on_listening=banner.show, **fields)
    except (WebTransportError, BrokenPipeError):
        raise
    except Exception as error:  # of a start-up handler
        _logger.debug("the application failed", exc_info=error)
        raise ServerError(f"{arguments.target} failed: {describe_failure(error)}") from error
    return Status.OK


def _application(arguments: argparse.Namespace) -> ServerApp:
    """The application of the command line; one for ASGI is mounted on a ServerApp.

    Raises:
        ConfigurationError: There is none, or it cannot be served over TCP.
    """
    found = load_app(arguments.target, factory=arguments.factory)
    if not isinstance(found, ServerApp):
        app = ServerApp()
        app.mount(found, tcp=arguments.tcp is not False, http2=arguments.http2)
        return app
    if arguments.tcp is not None or arguments.http2:
        if found.server.tcp.application is None:
            raise ConfigurationError(
                f"{printable(arguments.target)}: no ASGI application is mounted, so there is "
                "nothing to serve over TCP",
                config_key="tcp",
                config_value=arguments.tcp,
            )
        found.server.tcp.application.choose(tcp=arguments.tcp is not False, http2=arguments.http2)
    return found


def _over_tcp(app: ServerApp, config: ServerConfig) -> str | None:
    """What the application speaks over TCP, for people; empty: nothing; None: it is not for HTTP.

    Raises:
        ConfigurationError: A package is missing.
    """
    tcp = app.server.tcp
    if tcp.application is None:
        return tcp.protocols(config) or None
    try:
        return tcp.protocols(config)
    except ConfigurationError as error:
        if error.config_key in ("fallback", "websocket"):
            raise
        raise ConfigurationError(
            f"{error}; or serve HTTP/3 alone with --no-tcp",
            config_key=error.config_key,
            config_value=error.config_value,
        ) from error


def _fields(arguments: argparse.Namespace, config: ServerConfig) -> tuple[dict[str, Any], bool]:
    """What the command line changes in the configuration, and whether for development."""
    fields: dict[str, Any] = {}
    if arguments.websocket:
        fields["websocket"] = True
    if arguments.workers is not None:
        fields["workers"] = arguments.workers
    if arguments.reloaded:
        fields["drain_timeout"] = 0.0
    key_log = take_key_log()
    if key_log is not None and config.keylog_file is None:
        fields["keylog_file"] = key_log
    if arguments.certfile is not None:
        fields.update(certfile=arguments.certfile, keyfile=arguments.keyfile)
    elif not config.certfile:
        host = config.bind_host if arguments.host is None else arguments.host
        pair = development_certificate("localhost" if host in _ALL else host)
        fields.update(certfile=pair[0], keyfile=pair[1])
        return fields, True
    return fields, False


class _Banner:
    """What is printed when the server listens.

    Args:
        arguments: The command line.
        config: The configuration in force.
        is_development: The certificate was made by this program.
        over_tcp: What is spoken over TCP; empty: nothing; None: no application is for HTTP.
        has_pages: There is an application for HTTP over TCP.
    """

    def __init__(
        self,
        arguments: argparse.Namespace,
        config: ServerConfig,
        is_development: bool,
        over_tcp: str | None,
        *,
        has_pages: bool,
    ) -> None:
        self._over_tcp = over_tcp
        self._has_pages = has_pages
        self._arguments = arguments
        self._config = config
        self._is_development = is_development
        # Of systemd; the server removes the variable.
        self._inherits = "LISTEN_FDS" in os.environ

    def show(self, addresses: list[Address]) -> None:
        """Print it."""
        facts = self._facts()
        host = self._arguments.host if self._arguments.host is not None else self._config.bind_host
        if self._inherits:  # then neither of them counts
            host = addresses[0][0]
        shown = "localhost" if host in _ALL else host
        urls = [
            build_webtransport_url(host=shown, port=number)
            for number in dict.fromkeys(address[1] for address in addresses)
        ]
        by_hash = facts is not None and not facts.against_hashes()
        script = javascript_line(urls[0], bytes.fromhex(facts.hash)) if facts and by_hash else None
        if self._arguments.json:
            print_json(
                {
                    "urls": urls,
                    "addresses": addresses,
                    "tcp": bool(self._over_tcp),
                    "workers": self._config.workers,
                    "development": self._is_development,
                    "certificate": None if facts is None else facts.to_dict(),
                    "javascript": script,
                }
            )
            return
        output = Output()
        workers = f" with {self._config.workers} workers" if self._config.workers > 1 else ""
        output.line(
            f"pywebtransport {__version__} serves {self._arguments.target}{workers}", "bold"
        )
        everywhere = " and every other address of this machine" if host in _ALL else ""
        for url in urls:
            output.line(f"  URL          {url}{everywhere}", "cyan")
        if self._over_tcp is not None:
            tcp = f"{self._over_tcp} over TCP" if self._over_tcp else "no TCP"
            output.line(f"  protocols    HTTP/3 and WebTransport over UDP; {tcp}")
        if facts is not None:
            kind = "for development, " if self._is_development else ""
            output.line(f"  certificate  {kind}{', '.join(facts.names)}; {facts.validity}")
            output.line(f"  SHA-256      {facts.hash}")
        if self._is_development and script is not None:
            output.line(f"  JavaScript   const session = {script}")
            output.line(f"  try it       {self._trial(urls[0])}")
        output.line("Press Ctrl-C to stop.")

    def _trial(self, url: str) -> str:
        """A command that shows that the server answers."""
        if not self._has_pages:
            return f"pywebtransport connect {url} --dev"
        return f"curl --cacert {self._config.certfile} {url}"

    def _facts(self) -> CertificateFacts | None:
        try:
            return read_certificate(Path(self._config.certfile).read_bytes())
        except (OSError, WebTransportError):
            return None  # the server has loaded it: another program changes the file now
