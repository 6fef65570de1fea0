"""ASGI applications over real connections."""
