"""`sse-fast relay --from`."""

import asyncio
import re
import signal
from pathlib import Path
from typing import Any

import httpx

from sse_fast._native.wire.publication import encode_publication
from sse_fast.base.modules import CannotImport, module_named
from sse_fast.cli.edge import KEY_GIVEN, http_client, next_step
from sse_fast.cli.failure import Failure, Misuse
from sse_fast.client.attempts import Progress
from sse_fast.client.failures import Refused
from sse_fast.client.relay import OnError, Relay, Transform, TransformFailed, logger, name_of
from sse_fast.client.relay_edge import LARGEST, EdgeTarget
from sse_fast.client.relay_mark import NAME
from sse_fast.client.relay_source import HEADER_NAME, TOKEN, Source
from sse_fast.errors import InvalidEvent

HEADER_VALUE = re.compile(r"[\x20-\x7e]*")
FROM_GIVEN = "--from-token, --from-token-file or --header"
FROM_MISSING = "--from names the stream itself, with its path: of an edge .../sse/CHANNEL"


async def relay_from(
    from_url: str,
    url: str,
    authorization: dict[str, str],
    *,
    to: str | None,
    transform: str | None,
    events: tuple[str, ...],
    headers: tuple[str, ...],
    from_token: str | None,
    from_token_file: Path | None,
    since: str | None,
    state: Path | None,
    name: str | None,
    on_error: OnError,
    max_event_bytes: int,
    silence: float,
    cross_origin: bool,
) -> None:
    if to is None:
        raise Misuse("--to: name the channel that the events go to")
    if from_token is not None and from_token_file is not None:
        raise Misuse("--from-token and --from-token-file: give one of them")
    if from_token is not None and not TOKEN.fullmatch(from_token):
        raise Misuse("--from-token: a token is visible ASCII characters, without line ends")
    name = name if name is not None else name_of(from_url, to)
    function = function_of(transform) if transform is not None else None
    http_client(url, httpx.Timeout(1)).close()  # or it raises what is wrong with it
    try:
        encode_publication(to, "", limit=LARGEST)
        source = Source(
            from_url,
            headers=headers_of(headers),
            token=from_token if from_token_file is None else lambda: read_token(from_token_file),
            max_event_size=max_event_bytes,
            silence=silence or None,
            cross_origin=cross_origin,
        )
    except InvalidEvent as error:
        raise Misuse(f"--to: {error}") from None
    except ValueError as error:
        raise Misuse(f"--from: {error}") from None
    timeout = httpx.Timeout(30, connect=10)
    client = httpx.AsyncClient(base_url=url, timeout=timeout, headers=authorization)
    try:
        relay = Relay(
            source,
            EdgeTarget(client, to, name),
            name,
            transform=function,
            events=events,
            on_error=on_error,
            since=since,
            state=state,
            progress=Progress(logger),
        )
    except ValueError as error:
        raise Misuse(f"{'--since' if NAME.fullmatch(name) else '--name'}: {error}") from None
    running = asyncio.create_task(relay.run())
    ending: list[bool] = []

    def end() -> None:
        ending.append(True)
        running.cancel()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    try:
        await running
    except asyncio.CancelledError:
        if not ending:
            raise
    except Refused as error:
        step = next_step(error, FROM_GIVEN, FROM_MISSING) if error is source.refused else next_step(error, KEY_GIVEN)
        raise Failure(f"{error}{step}") from None
    except TransformFailed as error:
        raise Failure(f"stopped in front of {error}") from None
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


def function_of(name: str) -> Transform:
    """What MODULE:FUNCTION names; modules of the working directory come first. Raises Misuse."""
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        raise Misuse(f"--transform {name}: write MODULE:FUNCTION, as in shop.relays:shorter")
    try:
        found: Any = module_named(module)
    except CannotImport as error:
        raise Misuse(f"--transform {name}: {error}") from error.__cause__
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise Misuse(f"--transform {name}: {module} has no {attribute}")
        found = getattr(found, part)
    if not callable(found):
        raise Misuse(f"--transform {name}: this is no function")
    transform: Transform = found
    return transform


def headers_of(given: tuple[str, ...]) -> dict[str, str]:
    """Raises Misuse, which does not show what may be secret."""
    found: dict[str, str] = {}
    for line in given:
        name, colon, value = line.partition(":")
        if not colon or not HEADER_NAME.fullmatch(name) or not HEADER_VALUE.fullmatch(value.strip()):
            raise Misuse("--header: write 'Name: value', as in 'X-Api-Key: secret', in ASCII")
        found[name] = value.strip()
    return found


def read_token(path: Path) -> str:
    """Raises Refused."""
    try:
        token = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(f"--from-token-file: {path} can't be read: {error}") from None
    if not TOKEN.fullmatch(token):
        raise Refused(f"--from-token-file: {path} has no token, which is visible ASCII characters")
    return token
