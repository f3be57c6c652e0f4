"""How the edge is started: descriptors, the address, and Granian's arguments.

Whatever can be known to fail is tried here first and said in one sentence (`CannotServe`), since a worker process could
only die of it. The workers get their settings through the environment, see `Settings.to_environment`.
"""

import contextlib
import errno
import logging
import logging.config
import os
import signal
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from granian.constants import HTTPModes, Interfaces, Loops, RuntimeModes, SSLProtocols
from granian.errors import FatalError
from granian.http import HTTP1Settings, HTTP2Settings
from granian.log import LogLevels
from pydantic import ByteSize

from sse_fast._native.log.ring import HEADER_SIZE, segment_size
from sse_fast.access.rates import COUNTED_KEYS
from sse_fast.base.address import resolve
from sse_fast.base.descriptors import LEAST_DESCRIPTORS, budget, descriptors_for, raise_descriptor_limit
from sse_fast.edge.history import History
from sse_fast.edge.sources import check_files
from sse_fast.errors import InvalidSchema, SSEFastError, UnusableLogFile
from sse_fast.logs import log_config
from sse_fast.node.backplane import UnusableBackplane, reach_backplane
from sse_fast.node.claims import claim_port, claimed_path
from sse_fast.node.control import DIRECTORY_VARIABLE
from sse_fast.node.memory import memory_available, memory_limit
from sse_fast.node.schema import with_schema
from sse_fast.node.segment import create_shared, open_log_file
from sse_fast.node.sockets import SocketDirectory
from sse_fast.node.supervisor import Supervisor
from sse_fast.node.workers import Node, die_with_parent
from sse_fast.settings import Settings, flag, unknown_variables
from sse_fast.transports.entrance import Entrance
from sse_fast.transports.kernel import Bounds, bounds_of
from sse_fast.version import VERSION

log = logging.getLogger("sse_fast.node")

# One Rust thread for the sockets beside the Python one.
RUNTIME_MODE = RuntimeModes.mt
RUNTIME_THREADS = 1

BACKLOG = 4096

RAISE = "Raise the hard limit (ulimit -Hn; LimitNOFILE= in systemd; --ulimit nofile= with Docker)"

HTTP1 = HTTP1Settings(
    header_read_timeout=15_000,  # ms
    max_buffer_size=128 * 1024,  # bytes; it buffers as much in memory of its own for a client that does not read
)
HTTP2 = HTTP2Settings(
    keep_alive_interval=15_000,  # ms between pings: how a vanished HTTP/2 peer is noticed
    keep_alive_timeout=20,  # s
    max_concurrent_streams=1000,
    max_headers_size=64 * 1024,
)


class CannotServe(SSEFastError):
    """The server cannot start; the message says why and what to do."""


def granian_arguments(settings: Settings, descriptors: int) -> dict[str, Any]:
    """What Granian is started with. `settings.max_connections` is a number here."""
    assert settings.max_connections is not None
    tls = settings.ssl_certificate is not None
    has = budget(descriptors, settings.max_connections, app=settings.relays_to_app)
    return {
        "target": "sse_fast.node.worker:edge",
        "address": _address(settings.host, settings.port)[0],
        "port": settings.port,
        "uds": settings.uds,
        "interface": Interfaces.ASGI,
        "loop": Loops.uvloop,
        # Plain HTTP/1 halves the memory of a stream; browsers speak HTTP/2 over TLS only.
        "http": HTTPModes.auto if tls else HTTPModes.http1,
        "http1_settings": HTTP1,
        "http2_settings": HTTP2,
        "websockets": settings.app is not None,
        "ssl_cert": settings.ssl_certificate,
        "ssl_key": settings.ssl_keyfile,
        "ssl_protocol_min": SSLProtocols.tls12,
        "workers": settings.workers,
        "runtime_mode": RUNTIME_MODE,
        "runtime_threads": RUNTIME_THREADS,
        "backlog": BACKLOG,
        # Connections over the limit are answered by admission, not kept in an accept queue; short of accept(2) failing.
        # Behind a front it is the relay that bounds them.
        "backpressure": has.relayed if settings.has_front else has.without_relay,
        # Past drain_timeout a worker should be gone; one that is not would stall the shutdown for ever.
        "workers_kill_timeout": max(1, int(settings.drain_timeout) + 5),
        "log_level": LogLevels(settings.log_level),
        "log_dictconfig": logging_of(settings),
        "log_access": False,
    }


def logging_of(settings: Settings) -> dict[str, Any]:
    return log_config(settings.log_level, settings.log_format, app=settings.app is not None)


def serve(settings: Settings) -> int:
    """Run the edge until SIGTERM or SIGINT; the exit status. Raises CannotServe before anything has started."""
    logging.config.dictConfig(logging_of(settings))
    for line in unknown_variables():
        log.warning(line)
    check_certificate(settings)
    try:
        for line in check_files(settings):
            log.warning(line)
    except ValueError as error:
        raise CannotServe(str(error)) from None
    try:
        settings = with_schema(settings)
    except InvalidSchema as error:
        raise CannotServe(f"--schema: {error}") from None
    settings = settings.model_copy(update={"allowed_hosts": settings.hosts_where_it_listens})
    with contextlib.ExitStack() as claims, contextlib.ExitStack() as while_starting:
        if settings.uds is not None:
            while_starting.enter_context(claim_path(settings.uds))
        else:
            claims.enter_context(claim_address(settings.host, settings.port))
        if settings.operations_port is not None:
            claims.enter_context(
                claim_address(settings.operations_host, settings.operations_port, "operations_host", "operations_port")
            )
        return _serve(settings, while_starting)


def _serve(settings: Settings, while_starting: contextlib.ExitStack) -> int:
    """`while_starting` is closed when this server listens on its Unix socket."""
    descriptors = raise_descriptor_limit()
    if descriptors < LEAST_DESCRIPTORS:
        raise CannotServe(
            f"this process may open {descriptors} descriptors, and a server needs {LEAST_DESCRIPTORS} at least: one "
            f"for each stream, and some for publishers, health checks and itself. {RAISE} to that or more"
        )
    streams = budget(descriptors, app=settings.relays_to_app).streams
    reachable = settings.workers * streams
    if settings.max_connections is None:
        settings = settings.model_copy(update={"max_connections": reachable})
    elif settings.max_connections > reachable:
        log.warning(_too_few_descriptors(settings, reachable, descriptors))
        settings = settings.model_copy(update={"max_connections": reachable})

    try:
        reach_backplane(settings)
    except UnusableBackplane as error:
        raise CannotServe(str(error)) from None
    sockets = create_sockets()
    node = create_node(settings, streams)
    os.environ.update(settings.to_environment() | node.environment() | {DIRECTORY_VARIABLE: os.fspath(sockets.path)})
    arguments = granian_arguments(settings, descriptors)
    server = Supervisor(
        node, settings.hung_worker_timeout, granted_bounds(settings), sockets, front=settings.has_front, **arguments
    )
    server.on_startup(while_starting.close)
    server.on_startup(lambda: _announce(settings))
    try:
        server.serve(target_loader=load_edge, wrap_loader=False)
    except FatalError as error:
        raise CannotServe(f"Granian refused to start: {error}") from error
    except SystemExit as stop:
        # Ctrl-C reaches the workers too. One that is gone before its parent looks is no failure.
        return 0 if server.interrupt_signal and not server.given_up else int(stop.code or 0)
    finally:
        node.close()
        sockets.close()
        # Python gives signals their defaults back while it ends, and one that comes then would be the exit status.
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
    return 0


def granted_bounds(settings: Settings) -> Bounds:
    """What one connection may hold; warn where that is less than was asked for."""
    bounds = bounds_of(settings)
    if bounds.send_buffer < settings.send_buffer:
        log.warning(
            f"send_buffer asks for {settings.send_buffer} bytes, and the kernel grants {bounds.send_buffer} for each "
            f"connection; raise its limit (sysctl -w net.core.wmem_max={settings.send_buffer // 2}), or set "
            "--send-buffer lower"
        )
    return bounds


def create_sockets() -> SocketDirectory:
    """Where the workers will listen for each other, and their ASGI servers behind the fronts. CannotServe."""
    try:
        return SocketDirectory.made()
    except OSError as error:
        raise CannotServe(
            f"there is no place for the Unix sockets at which the parts of a worker meet ({error}); set TMPDIR to a "
            "directory that can be written and has a short path"
        ) from None


def create_node(settings: Settings, streams: int) -> Node:
    """The node that the workers will share, the log in it. `streams`: how many one of them may have. CannotServe."""
    check_memory(settings)
    try:
        if settings.log_file is not None:
            log_segment = open_log_file(settings.log_file, settings.log_size, settings.reserves)
        else:
            log_segment = create_shared(segment_size(settings.log_size, settings.reserves))
            log_segment.reserves = settings.reserves
        return Node.create(
            log_segment,
            settings.workers,
            counted_by_a_worker(settings, streams),
            keys=settings.idempotency_keys,
            window=settings.idempotency_window if settings.backplane is None else 0,  # else the backplane has them
            rated=COUNTED_KEYS if settings.rates else 0,
            history=History.size(),
        )
    except UnusableLogFile as error:
        raise CannotServe(str(error)) from error
    except OSError as error:
        raise CannotServe(f"cannot get memory for a log of {settings.log_size} bytes: {error.strerror}") from None


def counted_by_a_worker(settings: Settings, streams: int) -> int:
    """Addresses, credentials and channels of which a worker counts how many streams each has, at most."""
    counted = 0
    for limit in (settings.max_connections_per_ip, settings.max_connections_per_token):
        counted += streams if limit is not None else 0
    in_namespaces = any(each.max_connections is not None for each in settings.namespace)
    if settings.max_connections_per_channel is not None or in_namespaces:
        counted += -(-settings.max_subscriptions // settings.workers) + settings.max_channels_per_stream
    return counted


def check_memory(settings: Settings) -> None:
    """Raise CannotServe where the log can never be full: long before, the kernel would kill the server. Warn where it
    may be so, or where a log in a file would be read from the disk."""
    size = segment_size(settings.log_size, settings.reserves)
    limit, available = memory_limit(), memory_available()
    asked = f"log_size asks for {_mebibytes(size)}"
    if settings.reserves:
        asked = f"log_size and what namespaces reserve ask for {_mebibytes(size)}"
    elif (kept := log_capacity(settings)) != settings.log_size:
        asked = f"log_size of {_shown(settings.log_size)} is rounded up to {_shown(kept)}"
    if limit is not None and size > limit:
        there = f"and there are {_mebibytes(limit)} of memory here (swap and the limit of the control group included)"
        if settings.log_file is None:
            raise CannotServe(f"{asked}, {there}; set --log-size lower, or keep the log in a file by --log-file")
        log.warning(f"{asked}, {there}: what does not fit is read from the disk, and subscribers wait for it")
    elif settings.log_file is None and available is not None and size > available:
        log.warning(
            f"{asked}, and {_mebibytes(available)} of memory are free now: as the log fills, the kernel takes the rest "
            "from other programs, or kills one"
        )


def log_capacity(settings: Settings) -> int:
    """Bytes of events that the log keeps: `log_size`, rounded up to a power of two."""
    return int(segment_size(settings.log_size)) - HEADER_SIZE


def _shown(size: int) -> str:
    return ByteSize(size).human_readable(separator=" ").replace(".0 ", " ")


def _mebibytes(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB"


def load_edge(entrance: Entrance | None = None) -> Any:
    """The ASGI app of a worker process. Granian's own loader would put the working directory before the packages."""
    # A forked worker has its parent's handlers, which would do nothing here, until the loop has some of its own.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a rolling restart is the parent's business
    die_with_parent()
    from sse_fast.node.worker import edge

    return edge(entrance)


def claim_address(host: str, port: int, of_host: str = "host", of_port: str = "port") -> socket.socket:
    """The port, for as long as the socket is open. CannotServe, by the names of the settings, where nothing can listen,
    or another server does."""
    address, family = _address(host, port, of_host)
    other = f"choose another {flag(of_port)}"
    try:
        return claim_port(address, port, family)
    except OSError as error:
        raise CannotServe(
            {
                errno.EADDRINUSE: f"port {port} on {host} is in use; stop what listens there, or {other}",
                errno.EACCES: f"port {port} needs privileges; choose a {flag(of_port)} from 1024 on",
                errno.EADDRNOTAVAIL: f"{host} is not an address of this machine; see {flag(of_host)}",
            }.get(error.errno or 0, f"cannot listen on {host}:{port}: {error.strerror}")
        ) from None


@contextlib.contextmanager
def claim_path(path: Path) -> Iterator[None]:
    """No other server starts on this path in the block. CannotServe where no socket can be made, or another server has
    one; one that a dead server left behind is removed."""
    with contextlib.ExitStack() as claim:
        try:
            claim.enter_context(claimed_path(path))
            check_socket_path(path)
        except OSError as error:
            raise CannotServe(f"cannot make the socket {path}: {error.strerror or error}") from None
        yield


def check_socket_path(path: Path) -> None:
    """Raise CannotServe or OSError where no socket can be made; remove one that a dead server left behind."""
    if path.exists() and not path.is_socket():
        raise CannotServe(f"{path} exists and is not a socket; choose another --uds")
    with socket.socket(socket.AF_UNIX) as caller, socket.socket(socket.AF_UNIX) as probe:
        if path.exists():
            if caller.connect_ex(str(path)) != errno.ECONNREFUSED:
                raise CannotServe(f"another server listens on {path}; stop it, or choose another --uds")
            path.unlink()
        probe.bind(str(path))
        path.unlink()


def check_certificate(settings: Settings) -> None:
    """Raise CannotServe where certificate and key cannot be read or do not belong together."""
    if settings.ssl_certificate is None or settings.ssl_keyfile is None:
        return
    for name in ("ssl_certificate", "ssl_keyfile"):
        try:
            getattr(settings, name).read_bytes()
        except OSError as error:
            raise CannotServe(f"{flag(name)}: cannot read {getattr(settings, name)}: {error.strerror}") from None
    try:
        # Without the callback OpenSSL would ask the terminal for the passphrase of an encrypted key.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
            settings.ssl_certificate, settings.ssl_keyfile, password=lambda: b""
        )
    except ssl.SSLError as error:
        raise CannotServe(
            f"{settings.ssl_certificate} and {settings.ssl_keyfile} are not a PEM certificate and its unencrypted key "
            f"({error.reason or error})"
        ) from None


def url_of(settings: Settings) -> str:
    """Where a browser on this machine finds the server."""
    if settings.uds is not None:
        return f"unix:{settings.uds}"
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(settings.host, settings.host)
    host = f"[{host}]" if ":" in host and not host.startswith("[") else host
    return f"{'https' if settings.ssl_certificate else 'http'}://{host}:{settings.port}/"


def _announce(settings: Settings) -> None:
    log.info(
        f"sse_fast {VERSION}: open {url_of(settings)}",
        extra=({"app": settings.app, "edge": settings.edge_path} if settings.app is not None else {})
        | {
            "listen": listening(settings),
            "publish": publishing(settings),
            "workers": settings.workers,
            "max_connections": settings.max_connections,
            "log_size": _shown(log_capacity(settings)),
        }
        | (
            {"operations": f"{settings.operations_host} port {settings.operations_port}"}
            if settings.operations_port is not None
            else {}
        ),
    )


def listening(settings: Settings) -> str:
    """Who may, in few words. Holders of publish keys that grant it may, too."""
    granted = ", ".join(settings.grant_subscribe)
    if not settings.guarded:
        return f"open to anybody: {granted}" if granted else "open to anybody"
    needs = " or ".join(
        ["a token"] * settings.takes_tokens + ["the webhook's word"] * (settings.authorize_url is not None)
    )
    mercure = settings.mercure and not (settings.has_token_keys or settings.authorize_url is not None)
    mercure = mercure and (settings.mercure_anonymous or settings.mercure_subscriber_key is None)
    by_mercure = "; open to anybody by Mercure: what is not private" if mercure else ""
    return f"needs {needs}{f'; open to anybody: {granted}' if granted else ''}{by_mercure}"


def publishing(settings: Settings) -> str:
    """Who may, in few words."""
    keyed = settings.publish_key is not None or settings.publish_keys is not None
    granted = ", ".join(settings.grant_publish)
    if settings.open and not keyed:
        return "open to anybody"
    if keyed or settings.takes_tokens:
        needs = " or ".join(["a key"] * keyed + ["a token"] * settings.takes_tokens)
        return f"needs {needs}{f'; open to anybody: {granted}' if granted else ''}"
    if granted:
        return f"open to anybody: {granted}"
    return "open to nobody" if settings.guarded else "open to anybody"


def _too_few_descriptors(settings: Settings, reachable: int, descriptors: int) -> str:
    assert settings.max_connections is not None
    needed = descriptors_for(-(-settings.max_connections // settings.workers), app=settings.relays_to_app)
    return (
        f"max_connections={settings.max_connections} cannot be reached, and {reachable} holds: a worker may open "
        f"{descriptors} descriptors, some of them for other uses. {RAISE} to {needed}, or set max_connections lower"
    )


def _address(host: str, port: int, of_host: str = "host") -> tuple[str, socket.AddressFamily]:
    """The IP address of a host, which is what Granian wants."""
    try:
        return resolve(host, port)
    except OSError:
        raise CannotServe(f"{host} is neither an IP address nor a name that resolves; see {flag(of_host)}") from None
