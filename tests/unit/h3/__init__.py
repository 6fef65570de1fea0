"""The HTTP/3 layer against an in-memory QUIC connection and a virtual clock."""
