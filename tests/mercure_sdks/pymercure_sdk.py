"""pymercure: python pymercure_sdk.py publish|subscribe HUB TOKEN JSON; what it says is a JSON object a line."""

import json
import sys
from typing import Any

from pymercure.consumer import Consumer
from pymercure.message import Message
from pymercure.publisher.sync import SyncPublisher


def say(**what: Any) -> None:
    print(json.dumps(what), flush=True)


work, hub, token, given = sys.argv[1], sys.argv[2], sys.argv[3], json.loads(sys.argv[4])
if work == "publish":
    publisher = SyncPublisher(hub, token)
    for one in given:
        say(id=publisher.publish(Message(one["topics"], one["data"], message_id=one["id"], event_type=one["type"])))
else:
    consumer = Consumer(hub, given["topics"], lambda m: say(id=m.message_id, type=m.event_type, data=m.data))
    consumer.start_consumption()
    say(open=True)
