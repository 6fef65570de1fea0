"""The generations of WebTransport over HTTP/3 as one table of data.

A dialect is what two ends that both showed its enabling setting speak with
each other. Each stands for the drafts that share that setting: 02; 07 to 12;
13 and 14; 15 and 16. The selected dialect is the highest that both showed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from .constants import WEBTRANSPORT_H3_TOKEN, WEBTRANSPORT_TOKEN, Setting

__all__ = ["ALL_DIALECTS", "DIALECTS", "Dialect", "flow_control_on", "select_dialect"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Dialect:
    """One generation: what it looks like on the wire and which rules it adds."""

    draft: int
    """The draft it is named after: 2, 7, 14 or 16."""
    drafts: str
    """Which drafts it stands for, in words."""
    enabling: Setting
    """The setting that announces it."""
    counts_sessions: bool
    """The value of that setting is a number of sessions, not a switch."""
    token: str
    """``:protocol`` that a client sends."""
    datagram_settings: tuple[Setting, ...]
    """Any one of these with the value 1 announces HTTP datagrams."""
    connect_setting_implied: bool
    """The enabling setting stands for ENABLE_CONNECT_PROTOCOL as well."""
    version_header: bool
    """A client names the draft in a request header."""
    reads_tokens: bool
    """Application protocols may come as tokens, too; an offer in tokens is answered so."""
    strict_protocols: bool
    """A chosen protocol that was not offered ends the session (else it is ignored)."""
    flow_control: Literal["never", "sessions or initial", "initial"]
    """What both ends must send to switch session flow control on."""
    equal_limit_is_error: bool
    """WT_MAX_* with an unchanged value is a violation (else only a smaller one)."""
    one_session_without_flow_control: bool
    """Pooling needs flow control."""
    unknown_path_status: int
    """Status for a path without WebTransport."""


DIALECTS: Final[Mapping[int, Dialect]] = {
    dialect.draft: dialect
    for dialect in (
        Dialect(
            draft=2,
            drafts="draft-02",
            enabling=Setting.ENABLE_WEBTRANSPORT_DRAFT02,
            counts_sessions=False,
            token=WEBTRANSPORT_TOKEN,
            datagram_settings=(Setting.H3_DATAGRAM, Setting.H3_DATAGRAM_DRAFT04),
            connect_setting_implied=True,
            version_header=True,
            reads_tokens=True,
            strict_protocols=False,
            flow_control="never",
            equal_limit_is_error=False,
            one_session_without_flow_control=False,
            unknown_path_status=404,
        ),
        Dialect(
            draft=7,
            drafts="draft-07 to draft-12",
            enabling=Setting.WT_MAX_SESSIONS_DRAFT07,
            counts_sessions=True,
            token=WEBTRANSPORT_TOKEN,
            datagram_settings=(Setting.H3_DATAGRAM, Setting.H3_DATAGRAM_DRAFT04),
            connect_setting_implied=False,
            version_header=False,
            reads_tokens=True,
            strict_protocols=False,
            flow_control="never",
            equal_limit_is_error=False,
            one_session_without_flow_control=False,
            unknown_path_status=404,
        ),
        Dialect(
            draft=14,
            drafts="draft-13 and draft-14",
            enabling=Setting.WT_MAX_SESSIONS_DRAFT14,
            counts_sessions=True,
            token=WEBTRANSPORT_TOKEN,
            datagram_settings=(Setting.H3_DATAGRAM,),
            connect_setting_implied=False,
            version_header=False,
            reads_tokens=False,
            strict_protocols=False,
            flow_control="sessions or initial",
            equal_limit_is_error=False,
            one_session_without_flow_control=True,
            unknown_path_status=404,
        ),
        Dialect(
            draft=16,
            drafts="draft-15 and draft-16",
            enabling=Setting.WT_ENABLED,
            counts_sessions=False,
            token=WEBTRANSPORT_H3_TOKEN,
            datagram_settings=(Setting.H3_DATAGRAM,),
            connect_setting_implied=False,
            version_header=False,
            reads_tokens=False,
            strict_protocols=True,
            flow_control="initial",
            equal_limit_is_error=True,
            one_session_without_flow_control=True,
            unknown_path_status=405,
        ),
    )
}

ALL_DIALECTS: Final = frozenset(DIALECTS)

_INITIAL_SETTINGS: Final = (
    Setting.WT_INITIAL_MAX_DATA,
    Setting.WT_INITIAL_MAX_STREAMS_BIDI,
    Setting.WT_INITIAL_MAX_STREAMS_UNI,
)


def is_shown(dialect: Dialect, settings: Mapping[int, int]) -> bool:
    """Tell whether ``settings`` announce ``dialect``."""
    value = settings.get(dialect.enabling, 0)
    return value > 0 if dialect.counts_sessions else value == 1


def select_dialect(
    offered: Collection[int],
    peer_settings: Mapping[int, int],
    *,
    is_client: bool,
    below: int | None = None,
) -> Dialect | None:
    """Choose the highest dialect that both ends showed.

    Drafts 09 to 12 tell clients to send no enabling setting, and a client of
    the final RFC may send none either; a server therefore takes a client that
    shows none, but announces datagrams, as one of those.

    Args:
        offered: Numbers of the dialects this end showed.
        peer_settings: The peer's SETTINGS.
        is_client: This end is the client.
        below: Only dialects with a smaller number.

    Returns:
        The dialect, or None when there is none in common.
    """
    numbers = [n for n in sorted(offered, reverse=True) if below is None or n < below]
    for number in numbers:
        if is_shown(DIALECTS[number], peer_settings):
            return DIALECTS[number]
    if is_client or any(is_shown(dialect, peer_settings) for dialect in DIALECTS.values()):
        return None
    silent = 16 if any(peer_settings.get(name) for name in _INITIAL_SETTINGS) else 7
    return DIALECTS[silent] if silent in numbers else None


def flow_control_on(
    dialect: Dialect, local_settings: Mapping[int, int], peer_settings: Mapping[int, int]
) -> bool:
    """Tell whether both ends switched session flow control on."""
    if dialect.flow_control == "never":
        return False

    def switched_on(settings: Mapping[int, int]) -> bool:
        if any(settings.get(name) for name in _INITIAL_SETTINGS):
            return True
        by_sessions = dialect.flow_control == "sessions or initial"
        return by_sessions and settings.get(dialect.enabling, 0) > 1

    return switched_on(local_settings) and switched_on(peer_settings)
