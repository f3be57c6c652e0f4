"""What a host is called on the wire."""

import socket


def resolve(host: str, port: int) -> tuple[str, socket.AddressFamily]:
    """The IP address of a host, to listen on or to connect to; IPv4 where there is a choice. Raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    family, _, _, _, address = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    return str(address[0]), family
