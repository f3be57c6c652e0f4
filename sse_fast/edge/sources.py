"""Where what decides about credentials comes from, while the server runs: files that are read again when they change,
the key set at a URL, the webhook."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from sse_fast.access import publish_keys
from sse_fast.access.access import Access
from sse_fast.access.publish_keys import PublishKeys
from sse_fast.edge.asking import Asking
from sse_fast.edge.files import WatchedFile
from sse_fast.settings import Settings, flag

if TYPE_CHECKING:  # what few servers need, and takes its time to load
    from sse_fast.access.keys import KeySet
    from sse_fast.edge import key_sets as fetched
    from sse_fast.edge import webhook as hooks

logger = logging.getLogger("sse_fast.edge")

MOST_KEY_FILE = 1024 * 1024  # bytes


class Sources:
    """Sources(settings, access): all begins with `start`, but for the files, which are read at once; where one cannot
    be, nobody has its keys until it can. `ended`: is told of publish keys, by their digests, that open nothing more."""

    def __init__(
        self, settings: Settings, access: Access, ended: Callable[[frozenset[bytes]], None] = lambda keys: None
    ) -> None:
        self._settings, self._access, self._ended = settings, access, ended
        self.keys: fetched.FetchedKeys | None = None
        self.hook: hooks.Webhook | None = None
        self._files = files_of(settings, self._take_publish_keys, self._take_token_keys)
        for file in self._files:
            try:
                file.read()
            except (OSError, ValueError) as error:
                logger.error("%s: %s; nobody has its keys until it can be read", file.path, said(error))
        if settings.jwks_url is not None:
            from sse_fast.edge.key_sets import FetchedKeys

            self.keys = FetchedKeys(settings.jwks_url, self._take_fetched_keys)
        if settings.authorize_url is not None:
            from sse_fast.edge.webhook import Webhook

            self.hook = Webhook(settings.authorize_url)
        self.find_out = Asking(self.keys, self.hook)

    def start(self) -> None:
        for file in self._files:
            file.start()
        if self.keys is not None:
            self.keys.start()

    async def close(self) -> None:
        for file in self._files:
            file.close()
        if self.keys is not None:
            await self.keys.close()
        if self.hook is not None:
            await self.hook.close()

    def _take_publish_keys(self, data: bytes) -> None:
        if lost := self._access.publishers.use(PublishKeys.parse(data)):
            self._ended(lost)

    def _take_token_keys(self, data: bytes) -> None:
        self._use(self._key_set(data), "file")

    def _take_fetched_keys(self, data: bytes) -> "KeySet":
        found = self._key_set(data, secrets=False)
        self._use(found, "url")
        return found

    def _key_set(self, data: bytes, *, secrets: bool = True) -> "KeySet":
        from sse_fast.access.keys import key_set_of

        settings = self._settings
        return key_set_of(data, settings.token_algorithms, settings.token_issuer, secrets=secrets)

    def _use(self, found: "KeySet", source: str) -> None:
        assert self._access.tokens is not None  # it takes them by the same settings
        self._access.tokens.use(found.keys, source)


def files_of(
    settings: Settings, take_publish_keys: Callable[[bytes], None], take_token_keys: Callable[[bytes], None]
) -> list[WatchedFile]:
    named = (
        (settings.publish_keys, publish_keys.MOST_BYTES, take_publish_keys),
        (settings.token_keys, MOST_KEY_FILE, take_token_keys),
    )
    return [WatchedFile(Path(path), most, take) for path, most, take in named if path is not None]


def check_files(settings: Settings) -> list[str]:
    """Raise ValueError, in words for whoever starts a server, where a file of keys cannot be read or is none. What is
    good, and not what they may think it is, is told in lines."""
    lines: list[str] = []

    def take_publish_keys(data: bytes) -> None:
        if PublishKeys.parse(data).let_listen and not (settings.guarded or settings.grant_subscribe):
            lines.append(
                f"{settings.publish_keys} lets holders of keys listen, and so may everybody, to everything: "
                f"{flag('grant_subscribe')} says to what everybody may, and closes the rest"
            )

    def take_token_keys(data: bytes) -> None:
        from sse_fast.access.keys import has_private, key_set_of

        key_set_of(data, settings.token_algorithms, settings.token_issuer)
        if has_private(data):
            lines.append(
                f"{settings.token_keys} has private keys, by which tokens are signed and which no server needs: "
                "`sse-fast token keys FILE --public` prints the public half"
            )

    for file in files_of(settings, take_publish_keys, take_token_keys):
        name = flag("token_keys" if file.path == settings.token_keys else "publish_keys")
        try:
            file.read()
        except (OSError, ValueError) as error:
            raise ValueError(f"{name}: {file.path}: {said(error)}") from None
    return lines


def said(error: Exception) -> str:
    return f"cannot be read: {error.strerror}" if isinstance(error, OSError) else str(error)
