"""``pywebtransport probe``: says how far a client gets with a server, and what to do if not far."""

from __future__ import annotations

import argparse
import asyncio
import builtins
import contextlib
import ssl
from typing import Any

from .._core.settings import request_fields
from .._loop import Failures, resolve
from ..config import ClientConfig
from ..connection import WebTransportConnection
from ..exceptions import CertificateError, TimeoutError, WebTransportError
from ..h3._constants import Setting
from ..h3._dialects import DIALECTS, announced
from ..session import WebTransportSession
from ..utils._hosts import host_and_port
from ..utils._urls import parse_webtransport_url
from .arguments import (
    add_client_options,
    add_json_option,
    add_verb_parser,
    client_config,
    configure_client_logging,
    count,
)
from .certificates import CertificateFacts, read_certificate
from .output import Output, print_json
from .probe_tcp import probe_tcp
from .running import run_coroutine
from .status import Status, advice_for, status_of, wants_certificate, without_advice

__all__ = ["add_verb"]

_NS = 1e9
# A PING is sent after this much silence, and looked for this often; seconds.
_PING_INTERVAL = 0.02
_LOOK_INTERVAL = 0.002
# Round trips are measured for this many seconds at most.
_MEASURING_TIME = 3.0
# The advice of the library's own messages is about its Python API.
_WITH_OWN_ADVICE = (
    Status.NAME,
    Status.CLOSED,
    Status.SILENT,
    Status.CERTIFICATE,
    Status.NOT_FOUND,
    Status.FORBIDDEN,
)
_VERSIONS = {0x1: "1 (RFC 9000)", 0x6B3343CF: "2 (RFC 9369)"}
_STATUSES = """\
exit status:
   0  a session was opened
   3  the host name has no address
   4  the port is closed, or there is no route
   5  no answer: UDP is blocked, or the machine is down
   6  the QUIC or TLS handshake failed
   7  the certificate was not accepted
   8  the server does not speak WebTransport
   9  no sessions at this path (404, 405)
  10  not allowed (401, 403, 407)
  11  refused with another status, such as 429 or 503
  12  the server did not answer the request
   1  any other failure; 2: wrong arguments; 130: Ctrl-C"""


def add_verb(verbs: Any) -> None:
    """Add the parser of this verb."""
    parser = add_verb_parser(
        verbs,
        "probe",
        "check whether a server can be reached, and report what it offers",
        epilog=_STATUSES,
    )
    parser.add_argument(
        "--count",
        metavar="N",
        type=count,
        default=5,
        help="round trips to measure (default: %(default)d)",
    )
    add_json_option(parser, "the result")
    add_client_options(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Probe the server."""
    configure_client_logging(arguments)
    config = client_config(arguments, keep_alive=True, connection_keepalive_timeout=_PING_INTERVAL)
    probe = _Probe(arguments, config)

    async def main() -> int:
        try:
            await probe.run()
        except WebTransportError as error:
            await probe.failed(error)
        if config.fallback is not None:
            await probe.run_over_tcp()
        return probe.status

    status = run_coroutine(main)
    if arguments.json:
        print_json({"url": arguments.url, "status": int(status), **probe.facts})
    return status


class _Probe:
    """One attempt, step by step.

    Args:
        arguments: The command line.
        config: Configuration of the client.

    Attributes:
        facts: What was found so far, for JSON.
        status: The exit status.
    """

    def __init__(self, arguments: argparse.Namespace, config: ClientConfig) -> None:
        self.facts: dict[str, Any] = {}
        self.status = Status.OK
        self._config = config
        self._timeout: float = arguments.timeout
        self._count: int = arguments.count
        self._host, self._port, self._path = parse_webtransport_url(arguments.url)
        self._output = Output(quiet=arguments.json)
        self._step = "name"
        self._deadline = 0.0

    async def run(self) -> None:
        """Go as far as possible.

        Raises:
            WebTransportError: A step failed; ``failed`` reports it.
        """
        self._deadline = asyncio.get_running_loop().time() + self._timeout
        connection = WebTransportConnection(config=self._config)
        try:
            await self._connect(connection)
            await self._read_settings(connection)
            session = await self._open(connection)
            await self._measure(connection, session)
        finally:
            await connection.close()

    async def run_over_tcp(self) -> None:
        """Try the fallback, too, whether or not QUIC works."""
        status = await probe_tcp(
            self._config,
            (self._host, self._port, self._path),
            self._timeout,
            self._say,
            self.facts,
        )
        if status is Status.OK:
            self.status = status

    async def failed(self, error: WebTransportError) -> None:
        """Report the step that failed, and what to do."""
        self.status = status_of(error)
        if isinstance(error, CertificateError) and self._step == "QUIC":
            # Everything before the certificate worked.
            self._say("ok", "QUIC", f"{host_and_port(self._host, self._port)} answers")
            self._step = "certificate"
            await self._look_at_certificate()
        kind = type(error).__name__
        advice = advice_for(error, self._port)
        self.facts["failed"] = self._step
        self.facts["error"] = {"type": kind, "message": str(error)}
        self.facts["advice"] = advice
        brief = self.status in _WITH_OWN_ADVICE or wants_certificate(error)
        self._say("FAILED", self._step, without_advice(str(error)) if brief else str(error))
        for other in error.details.get("attempts", ()):
            if other["type"] != kind:
                self._say("note", "", f"{other['address']}: {without_advice(other['error'])}")
        if advice and not self._output.quiet:
            self._output.error(f"What to do: {advice}.", "yellow")

    # ------------------------------------------------------------------------ steps

    async def _connect(self, connection: WebTransportConnection) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout_at(self._deadline):
                addresses = await resolve(
                    self._host, self._port, family=self._config.address_family
                )
        except builtins.TimeoutError:
            raise TimeoutError(
                f"{self._host} was not resolved within {self._timeout:g} s",
                timeout_duration=self._timeout,
                operation="resolve",
            ) from None
        found = [str(address.sockaddr[0]) for address in addresses]
        self.facts["addresses"] = found
        meaning = "an address" if found == [self._host] else ", ".join(found)
        self._say("ok", "name", f"{self._host} is {meaning}")
        self._step = "QUIC"
        started = loop.time()
        failures: Failures = []
        await connection.establish(self._host, self._port, addresses=addresses, failures=failures)
        seconds = loop.time() - started
        stats = connection.get_stats()
        version = stats.get("version") or 0
        remote = connection.remote_address
        self.facts["quic"] = {
            "address": remote,
            "version": version,
            "handshake_ms": round(seconds * 1000, 2),
            "failed_addresses": [
                {"address": name, "error": str(error)} for name, error in failures
            ],
        }
        where = "" if remote is None else f"{remote[0]} port {remote[1]}, "
        self._say(
            "ok",
            "QUIC",
            f"{where}version {_VERSIONS.get(version, hex(version))}, handshake in "
            f"{seconds * 1000:.1f} ms",
        )
        for name, error in failures:
            self._say("note", "", f"not at {name}: {error}")
        self._step = "certificate"
        if connection.peer_certificate is not None:
            facts = self._note_certificate(connection.peer_certificate)
            how = "its hash" if self._config.pinned_hashes else "its authority and name"
            self._say("ok", "certificate", f"{_summary(facts)}; accepted by {how}")

    async def _read_settings(self, connection: WebTransportConnection) -> None:
        self._step = "HTTP/3"
        await connection.wait_ready(timeout=self._time_left())
        h3 = connection.h3
        assert h3 is not None
        settings = dict(h3.peer_settings)
        drafts = [item for item in DIALECTS.values() if announced(item, settings)]
        self.facts["settings"] = {_setting_name(key): value for key, value in settings.items()}
        self.facts["drafts"] = [item.draft for item in drafts]
        names = ", ".join(f"{_setting_name(key)}={value}" for key, value in settings.items())
        self._say("ok", "HTTP/3", f"SETTINGS {names or '(empty)'}")
        if drafts:
            self._say("ok", "drafts", ", ".join(item.drafts for item in drafts))
        self._step = "WebTransport"

    async def _open(self, connection: WebTransportConnection) -> WebTransportSession:
        loop = asyncio.get_running_loop()
        session = await connection.create_session(self._path, headers=request_fields(self._config))
        self._step = "session"
        started = loop.time()
        await session.ready(timeout=self._time_left())
        seconds = loop.time() - started
        self.facts["session"] = {
            "path": self._path,
            "draft": session.dialect,
            "application_protocol": session.application_protocol,
            "opened_ms": round(seconds * 1000, 2),
        }
        protocol = session.application_protocol
        self._say(
            "ok",
            "session",
            f"{self._path} accepted in {seconds * 1000:.1f} ms, draft-{session.dialect or 0:02}"
            + (f", application protocol {protocol}" if protocol else ""),
        )
        return session

    async def _measure(
        self, connection: WebTransportConnection, session: WebTransportSession
    ) -> None:
        samples = await _round_trips(connection, self._count)
        size = session.max_datagram_size
        self.facts["max_datagram_size"] = size
        if size:
            self._say("ok", "datagrams", f"up to {size} bytes")
        else:
            self._say("note", "datagrams", "the server takes none")
        if not samples:
            return
        average = sum(samples) / len(samples)
        self.facts["round_trips"] = {
            "count": len(samples),
            "min_ms": round(min(samples) * 1000, 3),
            "avg_ms": round(average * 1000, 3),
            "max_ms": round(max(samples) * 1000, 3),
        }
        self._say(
            "ok",
            "round trips",
            f"min {min(samples) * 1000:.2f} ms, avg {average * 1000:.2f} ms, "
            f"max {max(samples) * 1000:.2f} ms ({len(samples)} packets)",
        )

    async def _look_at_certificate(self) -> None:
        """Connect again without a check, to say what the certificate is."""
        config = self._config.update(
            server_certificate_hashes=[], ca_certs=None, verify_mode=ssl.CERT_NONE
        )
        connection = WebTransportConnection(config=config)
        try:
            # It is only a help: the error that matters is known.
            with contextlib.suppress(WebTransportError):
                await connection.establish(self._host, self._port)
                if connection.peer_certificate is not None:
                    facts = self._note_certificate(connection.peer_certificate)
                    self._say("note", "certificate", f"{_summary(facts)}, SHA-256 {facts.hash}")
        finally:
            await connection.close()

    # --------------------------------------------------------------------- internal

    def _time_left(self) -> float:
        return max(self._deadline - asyncio.get_running_loop().time(), 0.001)

    def _note_certificate(self, der: bytes) -> CertificateFacts:
        facts = read_certificate(der)
        self.facts["certificate"] = facts.to_dict()
        return facts

    def _say(self, mark: str, name: str, text: str) -> None:
        self._output.step(mark, name, text)


async def _round_trips(connection: WebTransportConnection, wanted: int) -> list[float]:
    """Round-trip times in seconds, of PINGs that a silent connection sends."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _MEASURING_TIME
    samples: list[float] = []
    last = connection.get_stats().get("latest_rtt")
    while len(samples) < wanted and loop.time() < deadline and connection.is_connected:
        await asyncio.sleep(_LOOK_INTERVAL)
        latest = connection.get_stats().get("latest_rtt")
        if latest and latest != last:
            last = latest
            samples.append(latest / _NS)
    return samples


def _summary(facts: CertificateFacts) -> str:
    return f"{facts.subject or ', '.join(facts.names)}, {facts.key}, {facts.validity}"


def _setting_name(number: int) -> str:
    try:
        return Setting(number).name
    except ValueError:
        return f"0x{number:x}"
