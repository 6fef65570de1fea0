"""ASGI applications over HTTP/3 and over TCP, with clients of others."""
