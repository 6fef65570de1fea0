"""Clients and servers over real UDP sockets of this machine."""
