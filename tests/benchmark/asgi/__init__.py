"""ASGI applications over HTTP/3, beside other servers."""
