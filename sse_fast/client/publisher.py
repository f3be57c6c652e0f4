"""The publisher of the command line: one request at a time."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

import httpx
import orjson

from sse_fast.client.failures import AS_IT_IS, Refused, Unavailable, check_encoding, explain, explain_answer
from sse_fast.client.publication import in_quotes as in_quotes
from sse_fast.serialization import json_of


class Publisher:
    """Publishes to one channel, or each event to several. Every method raises Refused where the server says no, and
    Unavailable where no answer came: the event may have been published all the same. With an idempotency `key`, which
    stands for one request, to publish again is right then."""

    def __init__(
        self,
        client: httpx.Client,
        channel: str | Sequence[str],
        event: str | None = None,
        retry: int | None = None,
        key: str | None = None,
        conflate_key: str | None = None,
    ) -> None:
        self.replayed = False
        """Whether the server says of the last request that it was published before under its key."""
        self._client = client
        self._channels = [channel] if isinstance(channel, str) else list(channel)
        fields = {"event": event, "retry": retry, "conflate_key": conflate_key}
        self._headers = {"Idempotency-Key": in_quotes(key)} if key is not None else {}
        self._fields = {name: value for name, value in fields.items() if value is not None}

    def text(self, data: bytes) -> str:
        """Publish data, UTF-8, as it stands; the id."""
        channel, *others = self._channels
        if others or "/" in channel or channel in (".", ".."):  # means something else in a path, even escaped
            try:
                return self.json(data.decode())
            except UnicodeDecodeError as error:
                raise Refused(f"data is not UTF-8 text: {error.reason} at byte {error.start}") from None
        path = "/publish/" + quote(channel, safe="")
        return str(self._post(path, data, "text/plain; charset=utf-8", self._fields)["id"])

    def json(self, data: object) -> str:
        """Publish a JSON value; the id. A string is published as that text."""
        return str(self._post("/publish", self._object(data), "application/json")["id"])

    def batch(self, values: Iterable[object]) -> list[str]:
        """Publish many JSON values in one request; their ids."""
        lines = b"\n".join(self._object(value) for value in values)
        return [str(id) for id in self._post("/publish", lines, "application/x-ndjson")["ids"]]

    def _object(self, data: object) -> bytes:
        channels = self._channels
        where = {"channel": channels[0]} if len(channels) == 1 else {"channels": channels}
        return orjson.dumps({**where, "data": orjson.Fragment(json_of(data)), **self._fields})

    def _post(self, path: str, body: bytes, media_type: str, query: Mapping[str, Any] | None = None) -> Any:
        try:
            headers = {"Content-Type": media_type, **AS_IT_IS, **self._headers}
            with self._client.stream("POST", path, content=body, headers=headers, params=query) as response:
                if not response.is_success:
                    raise Refused(explain_answer(response), response.status_code)
                check_encoding(response)
                answer = response.read()
                self.replayed = response.headers.get("Idempotent-Replayed") == "true"
        except httpx.TransportError as error:
            raise Unavailable(explain(error, self._client)) from error
        try:
            return orjson.loads(answer)
        except orjson.JSONDecodeError:
            raise Refused(f"{response.url} answers something else than JSON: another server?") from None
