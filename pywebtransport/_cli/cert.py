"""``pywebtransport cert``: makes certificates for development, and checks a given one."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..exceptions import CertificateError, certificate_not_found
from ..utils._certificates import DEFAULT_DAYS_VALID, generate_self_signed_cert, load_certificate
from ..utils._hosts import ascii_host, bracketed
from .arguments import add_json_option, add_verb_parser, count
from .certificates import CertificateFacts, javascript_line, read_certificate
from .output import Output, print_json
from .status import Status

__all__ = ["add_verb"]


def add_verb(verbs: Any) -> None:
    """Add the parser of this verb."""
    parser = add_verb_parser(verbs, "cert", "make a certificate for development, or check one")
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    make = add_verb_parser(
        actions,
        "make",
        "make a certificate that browsers and clients accept by its hash",
        epilog="It has an ECDSA P-256 key and is for HOST, localhost, 127.0.0.1 and ::1.",
    )
    make.add_argument("host", metavar="HOST", nargs="?", default="localhost")
    make.add_argument(
        "--directory",
        metavar="DIR",
        default=".",
        help="where to write HOST.crt and HOST.key (default: here)",
    )
    make.add_argument(
        "--days",
        type=count,
        default=DEFAULT_DAYS_VALID,
        help="days of validity; browsers accept 14 at most by hash (default: %(default)d)",
    )
    add_json_option(make, "the result")
    make.set_defaults(run=run_make)
    check = add_verb_parser(
        actions,
        "check",
        "check whether a server can use a certificate, and browsers accept it by its hash",
        epilog="The exit status is 7 if a server cannot use it.",
    )
    check.add_argument("certfile", metavar="CERTFILE", help="PEM file of the chain, leaf first")
    check.add_argument("keyfile", metavar="KEYFILE", nargs="?", help="PEM file of its key")
    check.add_argument("--host", help="host name or address that the certificate has to name")
    add_json_option(check, "the result")
    check.set_defaults(run=run_check)


def run_make(arguments: argparse.Namespace) -> int:
    """Make a certificate."""
    certfile, keyfile = generate_self_signed_cert(
        arguments.host, arguments.directory, days_valid=arguments.days
    )
    facts = read_certificate(Path(certfile).read_bytes())
    # The name in the file: an international one was converted.
    url = f"https://{bracketed(Path(certfile).stem)}:4433/"
    line = javascript_line(url, bytes.fromhex(facts.hash))
    against = facts.against_hashes()
    if arguments.json:
        files = {"certfile": certfile, "keyfile": keyfile}
        print_json({**files, **facts.to_dict(), "against_hashes": against, "javascript": line})
        return Status.OK
    output = Output()
    output.line(f"certificate  {certfile}")
    output.line(f"key          {keyfile}")
    output.line(f"names        {', '.join(facts.names)}")
    output.line(f"validity     {facts.validity}")
    output.line(f"SHA-256      {facts.hash}", "bold")
    for reason in against:
        output.line(f"browsers do not accept it by its hash: {reason}", "yellow")
    if not against:
        output.line(f"JavaScript   {line}")
    return Status.OK


def run_check(arguments: argparse.Namespace) -> int:
    """Check a certificate, and its key if there is one."""
    try:
        data = Path(arguments.certfile).read_bytes()
    except FileNotFoundError:
        raise certificate_not_found(arguments.certfile) from None
    facts = read_certificate(data)
    problems = _problems(facts, arguments)
    against = facts.against_hashes()
    if arguments.json:
        print_json({**facts.to_dict(), "problems": problems, "against_hashes": against})
        return Status.CERTIFICATE if problems else Status.OK
    output = Output()
    output.step("ok", "subject", f"{facts.subject or '(empty)'}, signed by {facts.issuer}")
    output.step("ok" if facts.is_valid_now else "FAILED", "validity", facts.validity)
    names = ", ".join(facts.names) or "none: clients refuse it (RFC 9525)"
    named = bool(facts.names) and (arguments.host is None or facts.is_for(_host(arguments.host)))
    output.step("ok" if named else "FAILED", "names", names)
    if arguments.keyfile is not None:
        fits = not any(problem.startswith("key: ") for problem in problems)
        output.step("ok" if fits else "FAILED", "key", f"{facts.key}, {arguments.keyfile}")
    else:
        output.step("note", "key", f"{facts.key}; name the key file to check it, too")
    output.step("ok", "SHA-256", facts.hash)
    if against:
        output.step("note", "by hash", f"browsers do not accept it: {'; '.join(against)}")
    else:
        output.step("ok", "by hash", "browsers accept it (serverCertificateHashes)")
    for problem in problems:
        output.error(problem)
    return Status.CERTIFICATE if problems else Status.OK


def _problems(facts: CertificateFacts, arguments: argparse.Namespace) -> list[str]:
    """Why a server cannot use it, or clients that check it do not accept it."""
    found = []
    if not facts.is_valid_now:
        found.append(f"validity: {facts.validity}")
    if not facts.names:
        found.append("names: it has no subjectAltName, and the common name does not count")
    elif arguments.host is not None and not facts.is_for(_host(arguments.host)):
        found.append(f"names: it is not for {arguments.host}")
    if arguments.keyfile is not None:
        try:
            load_certificate(certfile=arguments.certfile, keyfile=arguments.keyfile)
        except CertificateError as error:
            found.append(f"key: {error}")
    return found


def _host(text: str) -> str:
    return ascii_host(text)
