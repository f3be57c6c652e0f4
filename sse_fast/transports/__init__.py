"""Carry out what was decided: over ASGI, and on sockets of our own."""
