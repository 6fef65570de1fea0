"""The binding: two endpoints over real loopback sockets, driven without an event loop."""
