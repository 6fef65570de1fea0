"""HTTP/3 and WebTransport as a protocol without input and output; import its modules."""

__all__: list[str] = []
