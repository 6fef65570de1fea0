"""Hostile peers against a real server and a real client, with a well-behaved client beside them."""
