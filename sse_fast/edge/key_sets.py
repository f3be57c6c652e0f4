"""The key set at a URL: fetched before anybody needs it, again ahead of its time, and once for all who come with a key
that is not in it.

What it keeps: the newest set that was one. A fetch that fails leaves it as it is, and is tried again after a while.
"""

import asyncio
import logging
import random
import time
from collections import OrderedDict
from collections.abc import Callable

from sse_fast.access.algorithms import BadKeys
from sse_fast.access.caching import max_age
from sse_fast.access.keys import KeySet
from sse_fast.edge.asked import Asked, AskFailed

logger = logging.getLogger("sse_fast.edge")

MOST_BYTES = 256 * 1024
SECONDS = 5.0  # that a fetch may take
FRESH = 300.0  # seconds that a set holds where it does not say
FRESH_LEAST, FRESH_MOST = 60.0, 86_400.0
AHEAD = 0.8  # of its time, a set is fetched again
RETRY_LEAST, RETRY_MOST = 1.0, 60.0  # seconds behind a fetch that failed, twice as many each time
COOL = 5.0  # seconds behind a fetch until another one is made for a key that was not there, or for that one again
MISSING = 1024  # keys that were asked for in vain


class FetchedKeys:
    """FetchedKeys(url, take): fetches from `start` to `close`, and gives each to `take`, which returns the set that it
    is or raises BadKeys. fetches, failures: how many. keys: the newest set; None: there was none yet."""

    def __init__(
        self,
        url: str,
        take: Callable[[bytes], KeySet],
        *,
        seconds: float = SECONDS,
        cool: float = COOL,
        retry: float = RETRY_LEAST,
    ) -> None:
        self._server = Asked(url, connections=1)
        self._take = take
        self._seconds, self._cool, self._retry = seconds, cool, retry
        self._asked: asyncio.Future[None] | None = None  # those who wait for the next fetch, or that under way
        self._wanted = asyncio.Event()
        self._missing: OrderedDict[str | None, float] = OrderedDict()  # kid -> until when
        self._task: asyncio.Task[None] | None = None
        self._failed = 0  # in a row
        self.keys: KeySet | None = None
        self.fetches = self.failures = 0

    def start(self) -> None:
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._keep())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        if self._asked is not None:
            asked, self._asked = self._asked, None
            self._tell(asked, AskFailed("this server ends"))
        await self._server.close()

    async def ask(self, kid: str | None) -> None:
        """Have a set that may have this key; None: have one. Returns where it has, or where it is known that there is
        none. Raises AskFailed: nobody knows."""
        if self._has(kid):
            return
        now = time.monotonic()
        if self._missing.get(kid, now) > now:
            return
        if self._failed and self._asked is None:
            self._wanted.set()
            raise AskFailed("the key set cannot be fetched now")
        if self._asked is None:
            self._asked = asyncio.get_running_loop().create_future()
        self._wanted.set()
        await asyncio.shield(self._asked)
        if not self._has(kid):
            # Not for longer: anybody may name the key that comes next, and keep its tokens out so long.
            self._missing[kid] = time.monotonic() + self._cool
            if len(self._missing) > MISSING:
                self._missing.popitem(last=False)

    def _has(self, kid: str | None) -> bool:
        return self.keys is not None and (kid is None or any(key.kid == kid for key in self.keys.keys))

    # ---- fetching ----------------------------------------------------------------------------------------------------

    async def _keep(self) -> None:
        while True:
            if self._asked is None:
                self._asked = asyncio.get_running_loop().create_future()
            error, fresh = None, 0.0
            try:
                fresh = await self._fetch()
            except Exception as failed:
                self._tell_of(failed)
                error = AskFailed(str(failed))
            asked, self._asked = self._asked, None
            self._wanted.clear()  # whoever asked meanwhile has this answer, too
            self._tell(asked, error)
            await self._pause(fresh)

    def _tell(self, asked: asyncio.Future[None], error: AskFailed | None) -> None:
        if error is None:
            asked.set_result(None)
        else:
            asked.set_exception(error)
            asked.exception()  # whether anybody waits or not

    async def _fetch(self) -> float:
        """Seconds that the set is good for. Raises AskFailed or BadKeys."""
        self.fetches += 1
        answer = await self._server.ask(seconds=self._seconds, most=MOST_BYTES)
        if answer.status != 200:
            raise AskFailed(f"it answered {answer.status}")
        keys = self._take(answer.body)
        if self._failed:
            logger.info("the key set of --jwks-url is there again", extra={"keys": len(keys.keys)})
        self._failed = 0
        if keys.skipped and (self.keys is None or self.keys.skipped != keys.skipped):
            logger.warning("of the key set of --jwks-url not all keys are used: %s", "; ".join(keys.skipped[:4]))
        self.keys = keys
        age = max_age(answer.headers.get("cache-control"))
        return min(max(FRESH if age is None else age, FRESH_LEAST), FRESH_MOST)

    def _tell_of(self, error: Exception) -> None:
        """Of failures in a row, of the first."""
        self.failures += 1
        self._failed += 1
        if self._failed == 1:
            expected = isinstance(error, AskFailed | BadKeys)
            what = "the old keys hold" if self.keys is not None else "no token can be verified by it"
            sentence = "the key set of --jwks-url could not be fetched, and %s: %s"
            logger.warning(sentence, what, error, exc_info=None if expected else error)

    async def _pause(self, fresh: float) -> None:
        """Until it is time to fetch: ahead of the set's end, after a while behind a failure, or when somebody asks, but
        never at once again. Workers that started together come apart."""
        delay = min(self._retry * 2 ** min(self._failed - 1, 16), RETRY_MOST) if self._failed else fresh * AHEAD
        began = time.monotonic()
        try:
            async with asyncio.timeout(delay * random.uniform(0.75, 1.0)):
                await self._wanted.wait()
        except TimeoutError:
            return
        await asyncio.sleep(max(0.0, began + min(self._cool, delay) - time.monotonic()))
