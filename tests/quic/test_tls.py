"""Certificates, names, hashes, client authentication, tickets, the exporter, the key log."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest

from pywebtransport._quic import CloseInfo, QuicTls
from pywebtransport.exceptions import CertificateError, ConfigurationError, ConnectionError

from .harness import ALPN, Lab, Link

CRYPTO_ERROR = range(0x100, 0x200)  # RFC 9001 section 4.8


def failure(lab: Lab, **options: Any) -> CloseInfo:
    """How a handshake that cannot succeed ends at the client."""
    with lab.pending(**options) as link:
        link.run(lambda: link.near.closed)
        assert link.near.handshakes == 0
        assert link.server.handlers == []
        info = link.near.closed
        assert info is not None
        assert info.handshake_done is False
        assert link.conn.close_info is info
        return info


# ---------------------------------------------------------- the server's identity


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1"])
def test_signed_certificate_is_accepted_for_its_names(lab: Lab, name: str) -> None:
    with lab.link(server_name=name) as link:
        assert link.conn.peer_certificate == lab.certs.server.der
        assert link.conn.server_name == name
        assert link.conn.alpn == link.peer.alpn == "h3"
        # An IP literal is no SNI (RFC 6066 section 3).
        assert link.peer.server_name == ("localhost" if name == "localhost" else "")
        assert link.peer.peer_certificate is None


@pytest.mark.parametrize(
    ("certificate", "words"),
    [
        ("expired", "expired"),
        ("wrong_name", "name"),
        ("self_signed", "issuer|trusted|authority"),
        ("stranger", "issuer|trusted|authority"),
    ],
)
def test_bad_certificate_is_refused_in_words(lab: Lab, certificate: str, words: str) -> None:
    tls = lab.make_server_tls(getattr(lab.certs, certificate))
    info = failure(lab, server={"tls": tls})
    assert info.kind == "transport"
    assert info.code in CRYPTO_ERROR
    assert info.remote is False
    assert any(word in info.tls_error for word in words.split("|")), info.tls_error


def test_verification_can_be_switched_off(lab: Lab) -> None:
    server = {"tls": lab.make_server_tls(lab.certs.expired)}
    client = {"tls": lab.make_client_tls(ca_certs=None, verify=0)}
    with lab.link(server=server, client=client, server_name="whatever.test") as link:
        assert link.conn.peer_certificate == lab.certs.expired.der


def test_certificate_is_accepted_by_its_hash(lab: Lab) -> None:
    server = {"tls": lab.make_server_tls(lab.certs.self_signed)}
    hashes = [bytes(32), bytearray(lab.certs.self_signed.hash)]
    client = {"tls": lab.make_client_tls(ca_certs=None, certificate_hashes=hashes)}
    with lab.link(server=server, client=client, server_name="another.test") as link:
        assert link.conn.peer_certificate == lab.certs.self_signed.der


@pytest.mark.parametrize(
    ("certificate", "right_hash"),
    [
        ("self_signed", False),
        ("long_lived", True),
        ("rsa", True),
        ("expired_self_signed", True),
    ],
)
def test_hash_does_not_excuse_the_rules(lab: Lab, certificate: str, right_hash: bool) -> None:
    pair = getattr(lab.certs, certificate)
    digest = pair.hash if right_hash else bytes(32)
    info = failure(
        lab,
        server={"tls": lab.make_server_tls(pair)},
        client={"tls": lab.make_client_tls(ca_certs=None, certificate_hashes=[digest])},
    )
    assert info.code in CRYPTO_ERROR
    assert info.remote is False
    assert info.tls_error


def test_no_common_protocol_name(lab: Lab) -> None:
    info = failure(lab, client={"tls": QuicTls(is_server=False, alpn=["hq"], verify=0)})
    assert info.code == 0x100 + 120  # no_application_protocol


def test_certificate_is_chosen_by_sni(lab: Lab) -> None:
    tls = lab.make_server_tls()
    tls.add_sni("alpha.test", **lab.certs.alpha.files)
    tls.add_sni("*.beta.test", **lab.certs.beta.files)
    with lab.side(True, tls=tls) as server, lab.side(False) as client:
        for name, pair in (
            ("alpha.test", lab.certs.alpha),
            ("one.beta.test", lab.certs.beta),
            ("localhost", lab.certs.server),
        ):
            link = Link(server, client, server_name=name).establish()
            assert link.conn.peer_certificate == pair.der
            assert link.peer.server_name == name


def test_new_configuration_is_for_new_connections(lab: Lab) -> None:
    with lab.link() as link:
        link.server.endpoint.set_tls(lab.make_server_tls(lab.certs.replacement))
        other = Link(link.server, link.client).establish()
        assert other.conn.peer_certificate == lab.certs.replacement.der
        link.settle()
        assert link.conn.peer_certificate == lab.certs.server.der
        with pytest.raises(ConfigurationError):
            link.server.endpoint.set_tls(lab.client_tls)


# ---------------------------------------------------------- the client's identity


@pytest.mark.parametrize("verify", [1, 2])
def test_client_certificate_reaches_the_server(lab: Lab, verify: int) -> None:
    server = {"tls": lab.make_server_tls(ca_certs=lab.certs.authority.certfile, verify=verify)}
    client = {"tls": lab.make_client_tls(**lab.certs.client.files)}
    with lab.link(server=server, client=client) as link:
        assert link.peer.peer_certificate == lab.certs.client.der
        link.conn.close(0)
        link.run(lambda: link.far.closed)
        assert link.peer.peer_certificate == lab.certs.client.der


def test_optional_client_certificate_may_be_absent(lab: Lab) -> None:
    server = {"tls": lab.make_server_tls(ca_certs=lab.certs.authority.certfile, verify=1)}
    with lab.link(server=server) as link:
        assert link.peer.peer_certificate is None


@pytest.mark.parametrize(("verify", "stranger"), [(2, False), (2, True), (1, True)])
def test_missing_or_foreign_client_certificate_is_refused(
    lab: Lab, verify: int, stranger: bool
) -> None:
    tls = lab.make_server_tls(ca_certs=lab.certs.authority.certfile, verify=verify)
    files = lab.certs.stranger.files if stranger else {}
    with lab.pending(server={"tls": tls}, client={"tls": lab.make_client_tls(**files)}) as link:
        # The client may complete its side before the server has looked.
        link.run(lambda: link.near.closed)
        info = link.near.closed
        assert info is not None
        assert info.remote is True
        assert info.code in CRYPTO_ERROR
        assert link.server.handlers == []
        assert link.server.endpoint.stats()["handshake_failed"] == 1


# ------------------------------------------------------------- tickets and tokens


def test_ticket_resumes_and_token_validates(lab: Lab) -> None:
    with lab.link() as link:
        assert link.conn.resumed is False
        link.run(lambda: link.near.tickets and link.near.tokens)
        ticket, token = link.near.tickets[0], link.near.tokens[0]
        assert ticket
        assert token
        again = Link(
            link.server, link.client, connect={"ticket": ticket, "token": token}
        ).establish()
        assert again.conn.resumed is True
        assert again.peer.resumed is True
        again.open(b"works")


def test_servers_with_one_ticket_key_resume_each_others_sessions(lab: Lab) -> None:
    for keys, resumed in ((2 * [bytes(range(64))], True), ([bytes(64), bytes(range(64))], False)):
        with lab.link(server={"tls": lab.make_server_tls(ticket_key=keys[0])}) as link:
            link.run(lambda link=link: link.near.tickets)
            ticket = link.near.tickets[0]
        options = {"tls": lab.make_server_tls(ticket_key=keys[1])}
        with lab.link(server=options, connect={"ticket": ticket}) as link:
            assert link.conn.resumed is resumed


def test_ticket_key_has_64_bytes(lab: Lab) -> None:
    with pytest.raises(ConfigurationError, match="64 bytes"):
        lab.make_server_tls(ticket_key=bytes(32))


def test_garbage_ticket_and_token_do_no_harm(lab: Lab) -> None:
    options = {"ticket": b"no ticket", "token": b"no token"}
    with lab.link(connect=options) as link:
        assert link.conn.resumed is False


def test_tickets_can_be_switched_off(lab: Lab) -> None:
    with lab.link(server={"tls": lab.make_server_tls(tickets=False)}) as link:
        link.run(lambda: link.near.tokens)
        link.settle()
        assert link.near.tickets == []


# ------------------------------------------------------------ exporter and key log


def test_exporter_agrees_on_both_ends(lab: Lab) -> None:
    with lab.link() as link:
        near = link.conn.export_keying_material(b"EXPORTER-test", b"context", 64)
        far = link.peer.export_keying_material(b"EXPORTER-test", b"context", 64)
        assert near == far
        assert len(near) == 64
        other = {
            link.conn.export_keying_material(b"EXPORTER-other", b"context", 64),
            link.conn.export_keying_material(b"EXPORTER-test", b"", 64),
            link.conn.export_keying_material(b"EXPORTER-test", b"other", 64),
        }
        assert near not in other
        assert len(other) == 3


@pytest.mark.parametrize("length", [0, -1, 255 * 32 + 1])
def test_exporter_length_out_of_range_is_refused(lab: Lab, length: int) -> None:
    with lab.link() as link, pytest.raises(ConfigurationError, match="length"):
        link.conn.export_keying_material(b"label", b"", length)


def test_exporter_before_the_handshake(lab: Lab) -> None:
    with lab.pending() as link, pytest.raises(ConnectionError, match="handshake is not complete"):
        link.conn.export_keying_material(b"label", b"", 32)


def test_key_log_lines_come_from_both_ends(lab: Lab) -> None:
    lines: list[list[str]] = [[], []]
    server = {"tls": lab.make_server_tls(keylog=True), "keylog": lines[0].append}
    client = {"tls": lab.make_client_tls(keylog=True), "keylog": lines[1].append}
    with lab.link(server=server, client=client):
        wanted = {
            "CLIENT_HANDSHAKE_TRAFFIC_SECRET",
            "SERVER_HANDSHAKE_TRAFFIC_SECRET",
            "CLIENT_TRAFFIC_SECRET_0",
            "SERVER_TRAFFIC_SECRET_0",
        }
        near = {line for line in lines[1] if line.split()[0] in wanted}
        assert {line.split()[0] for line in near} == wanted
        assert near <= set(lines[0])


# ------------------------------------------------------------------- bad arguments


def test_missing_files_are_named(lab: Lab, tmp_path: Path) -> None:
    missing = str(tmp_path / "nowhere.pem")
    files = lab.certs.server.files
    for options in (
        {"certfile": missing, "keyfile": files["keyfile"]},
        {"certfile": files["certfile"], "keyfile": missing},
        {**files, "ca_certs": missing, "verify": 2},
    ):
        with pytest.raises(CertificateError, match="was not found") as caught:
            QuicTls(is_server=True, alpn=ALPN, **options)
        assert caught.value.certificate_path == missing
        assert caught.value.certificate_error == "file_not_found"


def test_unusable_files_are_named(lab: Lab, tmp_path: Path) -> None:
    empty = tmp_path / "empty.pem"
    empty.write_text("this is no certificate\n")
    files = lab.certs.server.files
    with pytest.raises(CertificateError, match=r"empty\.pem") as caught:
        QuicTls(is_server=True, alpn=ALPN, certfile=str(empty), keyfile=files["keyfile"])
    assert caught.value.certificate_error
    with pytest.raises(CertificateError):
        QuicTls(is_server=True, alpn=ALPN, certfile=files["certfile"], keyfile=str(empty))
    with pytest.raises(CertificateError):
        QuicTls(
            is_server=True,
            alpn=ALPN,
            certfile=files["certfile"],
            keyfile=lab.certs.client.keyfile,
        )
    tls = lab.make_server_tls()
    with pytest.raises(CertificateError):
        tls.add_sni("a.test", str(empty), files["keyfile"])


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"alpn": []}, "alpn"),
        ({"alpn": "h3"}, "alpn"),
        ({"alpn": [""]}, "alpn"),
        ({"alpn": ["x" * 256]}, "alpn"),
        ({"alpn": ["h\0"]}, "alpn"),
        ({"alpn": ["é"]}, "alpn"),
        ({"alpn": [3]}, "alpn"),
        ({"verify": 3}, "verify"),
        ({"verify": -1}, "verify"),
        ({"certfile": None}, "certfile"),
        ({"keyfile": None}, "keyfile"),
        ({"is_server": False, "certfile": None}, "certfile"),
        ({"is_server": False, "keyfile": None}, "keyfile"),
        ({"certificate_hashes": [b"short"]}, "certificate_hashes"),
        ({"certificate_hashes": ["00" * 32]}, "certificate_hashes"),
        ({"certificate_hashes": [32]}, "certificate_hashes"),
        ({"certificate_hashes": [None]}, "certificate_hashes"),
    ],
)
def test_bad_option_is_named(lab: Lab, options: dict[str, Any], key: str) -> None:
    arguments = {"is_server": True, "alpn": ALPN, **lab.certs.server.files, **options}
    with pytest.raises(ConfigurationError) as caught:
        QuicTls(**arguments)
    assert caught.value.config_key == key


def test_sni_name_must_be_a_name(lab: Lab) -> None:
    tls = lab.make_server_tls()
    for name in ("", "a\0b", "." * 300 + "ä"):
        with pytest.raises(ConfigurationError):
            tls.add_sni(name, **lab.certs.alpha.files)
    with pytest.raises(CertificateError, match="was not found"):
        tls.add_sni("a.test", "/nowhere.crt", "/nowhere.key")
    tls.add_sni("bücher.test", **lab.certs.alpha.files)


def test_configuration_is_made_once(lab: Lab) -> None:
    with pytest.raises(RuntimeError, match="immutable"):
        lab.server_tls.__init__(  # type: ignore[misc]
            is_server=True, alpn=ALPN, **lab.certs.server.files
        )
    blank = QuicTls.__new__(QuicTls)
    with pytest.raises(RuntimeError):
        blank.add_sni("a.test", **lab.certs.alpha.files)


def test_peer_certificate_is_the_one_in_the_file(lab: Lab) -> None:
    text = Path(lab.certs.server.certfile).read_text()
    first = text[: text.index("-----END CERTIFICATE-----")] + "-----END CERTIFICATE-----\n"
    with lab.link() as link:
        assert link.conn.peer_certificate == ssl.PEM_cert_to_DER_cert(first)
