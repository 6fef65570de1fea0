"""Relays sessions of a server to an upstream server: ``WebTransportForwarder``."""

from ._forwarder import WebTransportForwarder

__all__ = ["WebTransportForwarder"]
