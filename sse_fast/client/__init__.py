"""Clients of an event stream server: publish to it, and listen."""
