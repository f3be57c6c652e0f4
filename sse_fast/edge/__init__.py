"""The server over HTTP: streams, publishing, operations, metrics and the page, joined in one ASGI app."""
