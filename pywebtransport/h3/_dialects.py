"""The generations of WebTransport over HTTP/3 as one table of data.

A dialect is what two ends that both showed its enabling setting speak with
each other. Each stands for the drafts that share that setting: 02; 07 to 12;
13 and 14; 15 and 16. The selected dialect is the highest that both showed; at
a server the token of the request has a say, see :func:`dialect_of_request`.
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
    """One generation: what it looks like on the wire and which rules it adds."""

    draft: int
    """The draft it is named after: 2, 7, 14 or 16."""
    drafts: str
    """Which drafts it stands for, in words."""
    enabling: tuple[int, ...]
    """The settings that announce it: that of its drafts, and those that the configuration adds."""
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
            enabling=(Setting.ENABLE_WEBTRANSPORT_DRAFT02,),
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
            enabling=(Setting.WT_MAX_SESSIONS_DRAFT07,),
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
            enabling=(Setting.WT_MAX_SESSIONS_DRAFT14,),
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
            enabling=(Setting.WT_ENABLED,),
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


def add_enabling(offered: Collection[int], extra: Mapping[int, int]) -> tuple[Dialect, ...]:
    """The dialects to offer, newest first.

    Args:
        offered: Their numbers.
        extra: Further settings that announce one of them: setting identifier -> dialect.
    """
    return tuple(
        replace(dialect, enabling=(*dialect.enabling, *added)) if added else dialect
        for number in sorted(offered, reverse=True)
        for dialect in (DIALECTS[number],)
        for added in ([name for name, of in extra.items() if of == number],)
    )


def announced(dialect: Dialect, settings: Mapping[int, int]) -> int:
    """What ``settings`` say of ``dialect``: 0 is nothing, else a switch or a number of sessions."""
    own, *extra = (settings.get(name, 0) for name in dialect.enabling)
    # The value of a switch of the drafts is 1; what a later one makes of its own is not known.
    return max(own if dialect.counts_sessions or own == 1 else 0, *extra, 0)


def select_dialect(
    offered: Iterable[Dialect], peer_settings: Mapping[int, int], *, below: int | None = None
) -> Dialect | None:
    """Choose the newest dialect that both ends showed.

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
    """Tell whether a client shows no dialect at all, or only what is not known here.

    Drafts 09 to 12 tell clients to do so, and the final RFC may; the token of a request
    then says what the client speaks.
    """
    known = (*DIALECTS.values(), *offered)
    return not any(announced(dialect, peer_settings) for dialect in known)


def dialect_of_request(
    offered: Sequence[Dialect], peer_settings: Mapping[int, int], token: str | None
) -> Dialect | None:
    """Server: what a client speaks that asks for a session with ``token``.

    The SETTINGS say so. Where they do not, because they show no dialect or none that has
    the session limits that they give, the token does: only drafts from 15 on know the
    newer one. With the older one a client is of an older generation.

    Args:
        offered: What this end showed, newest first.
        peer_settings: The client's SETTINGS.
        token: ``:protocol`` of the request; None: there was none yet.

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
    """Tell whether a client must be given all credit of a session at once.

    Safari shows draft-07 and draft-14 together. It starts with the limits that it is given,
    and does not go on when they are raised later (WebKit bug 319818).
    """
    return dialect.draft == 14 and bool(announced(DIALECTS[7], peer_settings))


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
        return by_sessions and announced(dialect, settings) > 1

    return switched_on(local_settings) and switched_on(peer_settings)
