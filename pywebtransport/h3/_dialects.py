"""The generations of WebTransport over HTTP/3 in one table.

Two ends can use a dialect if both sent its enabling setting. A dialect stands for the drafts that
share this setting: 02; 07 to 12; 13 and 14; 15 and 16. The highest dialect that both ends announced
is selected; at a server, the token of the request also matters, see :func:`dialect_of_request`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from ._constants import WEBTRANSPORT_H3_TOKEN, WEBTRANSPORT_TOKEN, Setting

__all__ = [
    "ALL_DIALECTS",
    "DIALECTS",
    "Dialect",
    "add_enabling",
    "announced",
    "dialect_of_request",
    "flow_control_on",
    "never_asks_for_credit",
    "select_dialect",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class Dialect:
    """One generation: its form on the wire, and its additional rules.

    The defaults are what most generations have in common.
    """

    draft: int
    """The draft that names it: 2, 7, 14 or 16."""
    drafts: str
    """The drafts that it stands for, as a string."""
    enabling: tuple[int, ...]
    """The settings that announce it: that of its drafts, and those from the configuration."""
    counts_sessions: bool = False
    """The value of that setting is a number of sessions, not a switch."""
    token: str = WEBTRANSPORT_TOKEN
    """The ``:protocol`` that a client sends."""
    datagram_settings: tuple[Setting, ...] = (Setting.H3_DATAGRAM,)
    """Any one of these with the value 1 announces HTTP datagrams."""
    connect_setting_implied: bool = False
    """The enabling setting stands for ENABLE_CONNECT_PROTOCOL as well."""
    version_header: bool = False
    """A client names the draft in a request header."""
    reads_tokens: bool = False
    """Application protocols may be tokens, too; an offer in tokens is answered with a token."""
    strict_protocols: bool = False
    """A selected protocol that was not offered ends the session (otherwise it is ignored)."""
    flow_control: Literal["never", "sessions or initial", "initial"] = "never"
    """What both ends must send to enable session flow control."""
    equal_limit_is_error: bool = False
    """WT_MAX_* with an unchanged value is a violation (otherwise only a smaller value is)."""
    one_session_without_flow_control: bool = False
    """Whether pooling needs flow control."""
    unknown_path_status: int = 404
    """Status for a path without WebTransport."""


DIALECTS: Final[Mapping[int, Dialect]] = {
    dialect.draft: dialect
    for dialect in (
        Dialect(
            draft=2,
            drafts="draft-02",
            enabling=(Setting.ENABLE_WEBTRANSPORT_DRAFT02,),
            datagram_settings=(Setting.H3_DATAGRAM, Setting.H3_DATAGRAM_DRAFT04),
            connect_setting_implied=True,
            version_header=True,
            reads_tokens=True,
        ),
        Dialect(
            draft=7,
            drafts="draft-07 to draft-12",
            enabling=(Setting.WT_MAX_SESSIONS_DRAFT07,),
            counts_sessions=True,
            datagram_settings=(Setting.H3_DATAGRAM, Setting.H3_DATAGRAM_DRAFT04),
            reads_tokens=True,
        ),
        Dialect(
            draft=14,
            drafts="draft-13 and draft-14",
            enabling=(Setting.WT_MAX_SESSIONS_DRAFT14,),
            counts_sessions=True,
            flow_control="sessions or initial",
            one_session_without_flow_control=True,
        ),
        Dialect(
            draft=16,
            drafts="draft-15 and draft-16",
            enabling=(Setting.WT_ENABLED,),
            token=WEBTRANSPORT_H3_TOKEN,
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


def add_enabling(offered: Collection[int], extra: Mapping[int, int]) -> tuple[Dialect, ...]:
    """The dialects to offer, newest first.

    Args:
        offered: Numbers of the dialects.
        extra: Further settings that announce one of them: setting identifier -> dialect.
    """
    return tuple(
        replace(dialect, enabling=(*dialect.enabling, *added)) if added else dialect
        for number in sorted(offered, reverse=True)
        for dialect in (DIALECTS[number],)
        for added in ([name for name, of in extra.items() if of == number],)
    )


def announced(dialect: Dialect, settings: Mapping[int, int]) -> int:
    """The value that ``settings`` have for ``dialect``; 0 if they do not announce it."""
    own, *extra = (settings.get(name, 0) for name in dialect.enabling)
    # The switch of these drafts has the value 1; later drafts may define other values.
    return max(own if dialect.counts_sessions or own == 1 else 0, *extra, 0)


def select_dialect(
    offered: Iterable[Dialect], peer_settings: Mapping[int, int], *, below: int | None = None
) -> Dialect | None:
    """Choose the newest dialect that both ends announced.

    Args:
        offered: What this end showed, newest first.
        peer_settings: The peer's SETTINGS.
        below: Only dialects with a smaller number.

    Returns:
        The dialect, or None when there is none in common.
    """
    for dialect in offered:
        if (below is None or dialect.draft < below) and announced(dialect, peer_settings):
            return dialect
    return None


def is_silent(offered: Iterable[Dialect], peer_settings: Mapping[int, int]) -> bool:
    """Return whether a client announces no dialect, or only unknown ones.

    Drafts 09 to 12 tell clients to do so, and the final RFC may, too. Then the token of a request
    says which dialect the client uses.
    """
    known = (*DIALECTS.values(), *offered)
    return not any(announced(dialect, peer_settings) for dialect in known)


def dialect_of_request(
    offered: Sequence[Dialect], peer_settings: Mapping[int, int], token: str | None
) -> Dialect | None:
    """Server: return the dialect of a client that requests a session with ``token``.

    Normally the SETTINGS say it. If they do not, because they announce no dialect, or none that has
    the session limits in them, the token decides: only drafts from 15 on have the newer token. The
    older token means an older generation.

    Args:
        offered: What this end showed, newest first.
        peer_settings: The client's SETTINGS.
        token: ``:protocol`` of the request; None: there was no request yet.

    Returns:
        The dialect, or None when there is none in common.
    """
    by_number = {dialect.draft: dialect for dialect in offered}
    chosen = select_dialect(offered, peer_settings)
    initial = any(peer_settings.get(name) for name in _INITIAL_SETTINGS)
    if chosen is None:
        if not is_silent(offered, peer_settings):
            return None
        newest = token == WEBTRANSPORT_H3_TOKEN or (token is None and initial)
        order = (16, 7) if newest else (7, 16)
        return next((by_number[n] for n in order if n in by_number), None)
    if token == WEBTRANSPORT_H3_TOKEN and chosen.flow_control == "never" and initial:
        return by_number.get(16, chosen)
    if token == WEBTRANSPORT_TOKEN and chosen.token != token:
        return select_dialect(offered, peer_settings, below=chosen.draft) or chosen
    return chosen


def never_asks_for_credit(dialect: Dialect, peer_settings: Mapping[int, int]) -> bool:
    """Return whether a client must get all credit of a session at the start.

    Safari announces draft-07 and draft-14 together. It uses the limits that it gets at the start,
    and does not continue when they are raised later (WebKit bug 319818).
    """
    return dialect.draft == 14 and bool(announced(DIALECTS[7], peer_settings))


def flow_control_on(
    dialect: Dialect, local_settings: Mapping[int, int], peer_settings: Mapping[int, int]
) -> bool:
    """Return whether both ends enabled session flow control."""
    if dialect.flow_control == "never":
        return False

    def switched_on(settings: Mapping[int, int]) -> bool:
        if any(settings.get(name) for name in _INITIAL_SETTINGS):
            return True
        by_sessions = dialect.flow_control == "sessions or initial"
        return by_sessions and announced(dialect, settings) > 1

    return switched_on(local_settings) and switched_on(peer_settings)
