"""WebTransport sessions."""

from .._core.session import WebTransportSession
from .._core.session_stats import SessionStats
from ..utils._params import PathParams, QueryParams
from .manager import SessionManager

__all__ = ["PathParams", "QueryParams", "SessionManager", "SessionStats", "WebTransportSession"]
