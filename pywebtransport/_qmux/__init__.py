"""QMux: the streams and datagrams of QUIC over a reliable byte stream.

Sans-I/O: a :class:`Link` carries the records. It is a WebSocket, or TLS over TCP.
"""
