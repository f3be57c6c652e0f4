"""Which of several servers holds the log: as Sentinels say it, or as a cluster's servers do."""

import asyncio
from collections.abc import Sequence
from typing import Any

from sse_fast.cluster.address import Address, Host, text_of
from sse_fast.cluster.connection import Connection, connect
from sse_fast.cluster.trouble import trouble_of, unreachable
from sse_fast.errors import EngineRefused, EngineTrouble, EngineUnavailable

SENTINEL_SECONDS = 0.5  # they are asked every second, and one that is away must not keep the others waiting


async def primary_of(address: Address, moved: Host | None, seconds: float) -> Host | None:
    """Where to connect to; None: a Unix socket. `moved`: where a cluster's server has sent us. Raises
    EngineUnavailable."""
    if address.kind == "socket":
        return None
    if address.kind == "sentinel":
        return await by_sentinels(address, seconds)
    return moved or address.hosts[0]


async def by_sentinels(address: Address, seconds: float) -> Host:
    """All are asked, and who knows of the latest failover is believed: one that is cut off with an old primary does not
    know of it."""
    seconds = min(seconds, SENTINEL_SECONDS)
    answers = await asyncio.gather(*(ask_sentinel(address, host, seconds) for host in address.hosts))
    return latest(address, answers)


def latest(address: Address, answers: Sequence[tuple[int, Host] | EngineUnavailable]) -> Host:
    known = [answer for answer in answers if isinstance(answer, tuple)]
    if known:
        _, host = max(known, key=lambda one: one[0])
        return host
    errors = [answer for answer in answers if isinstance(answer, EngineUnavailable)]
    for error in errors:
        if isinstance(error, EngineRefused):
            raise error
    raise unreachable(f"no Sentinel of {address}", "; ".join(map(str, errors)))


async def ask_sentinel(address: Address, host: Host, seconds: float) -> tuple[int, Host] | EngineUnavailable:
    """(config epoch, the primary), or why not."""
    try:
        connection = await connect(address, host, seconds, sentinel=True)
        try:
            reply = await connection.ask(("SENTINEL", "MASTER", address.service), seconds)
        finally:
            await connection.close()
        return primary_said(address, host, reply)
    except EngineUnavailable as error:
        return error


def primary_said(address: Address, host: Host, reply: Any) -> tuple[int, Host]:
    if isinstance(reply, Exception):
        if "No such master" in str(reply):
            raise EngineRefused(
                f"the Sentinel at {text_of(host)} knows no service {address.service!r}", EngineTrouble.ADDRESS
            )
        if str(reply).startswith("ERR unknown command"):
            raise EngineRefused(f"{text_of(host)} is no Sentinel: write the URL as redis://", EngineTrouble.ADDRESS)
        raise trouble_of(reply, text_of(host), "*")
    said = dict(zip(reply[::2], reply[1::2], strict=True))
    return int(said[b"config-epoch"]), (said[b"ip"].decode(), int(said[b"port"]))


async def connect_to_primary(address: Address, moved: Host | None, seconds: float) -> Connection:
    if address.kind != "cluster" or moved is not None:
        return await connect(address, await primary_of(address, moved, seconds), seconds)
    errors: list[EngineUnavailable] = []
    for host in address.hosts:  # each knows where the log is
        try:
            return await connect(address, host, seconds)
        except EngineUnavailable as error:
            errors.append(error)
    raise next((error for error in errors if isinstance(error, EngineRefused)), errors[0])
