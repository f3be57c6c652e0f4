"""mercure-publisher, either of its clients: python mercure_publisher_sdk.py publish|publish-async HUB KEY JSON."""

import asyncio
import json
import sys
from typing import Any

from mercure_publisher import AsyncMercurePublisher, MercureConfig, MercurePublisher

work, hub, key, given = sys.argv[1], sys.argv[2], sys.argv[3], json.loads(sys.argv[4])
config = MercureConfig(hub_url=hub, publisher_jwt_key=key, publish_topics=["*"])


def fields(update: dict[str, Any]) -> dict[str, Any]:
    return {name: update[name] for name in ("data", "private", "id", "type", "retry")}


async def publish() -> list[str]:
    async with AsyncMercurePublisher(config) as publisher:
        return [await publisher.publish(one["topics"], **fields(one)) for one in given]


if work == "publish-async":
    answers = asyncio.run(publish())
else:
    with MercurePublisher(config) as publisher:
        answers = [publisher.publish(one["topics"], **fields(one)) for one in given]
for answer in answers:
    print(json.dumps({"id": answer}))
