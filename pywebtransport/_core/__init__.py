"""The one room: a connection with its sessions, streams and datagrams.

The packages ``connection``, ``session``, ``stream`` and ``datagram`` give them their public names.
"""

__all__: list[str] = []
