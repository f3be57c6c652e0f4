"""The engine behind several nodes, looked at before the workers start: what a server can only die of is said in a
sentence, and one that is away is waited for."""

import asyncio
import logging

from sse_fast.errors import EngineRefused, EngineUnavailable, SSEFastError
from sse_fast.hub.engine_at import engine_of
from sse_fast.settings import Settings

logger = logging.getLogger("sse_fast.node")

AGAIN = 1.0  # seconds


class UnusableBackplane(SSEFastError):
    """It takes no events of this server until somebody puts something right; the message says what."""


def reach_backplane(settings: Settings) -> None:
    """Until the backplane of these settings, if they have one, can be used. Raises UnusableBackplane."""
    if settings.backplane is None:
        return
    try:
        connect = engine_of(
            settings.backplane.get_secret_value(),
            prefix=settings.backplane_prefix,
            replicas=settings.backplane_replicas,
            size=settings.backplane_size,
            max_age=settings.backplane_max_age,
            idempotency_window=settings.idempotency_window,
            idempotency_keys=settings.idempotency_keys,
        )
    except (ValueError, ModuleNotFoundError) as error:
        raise UnusableBackplane(f"--backplane: {error}") from None

    async def reach() -> None:
        engine, told = connect(), ""
        try:
            while True:
                try:
                    await engine.open()
                    return
                except EngineRefused as error:
                    raise UnusableBackplane(f"--backplane: {error}") from None
                except EngineUnavailable as error:
                    if told != str(error):
                        told = str(error)
                        logger.warning(f"the backplane cannot be used yet, and is waited for: {told}")
                await asyncio.sleep(AGAIN)
        finally:
            await engine.close()

    asyncio.run(reach())
