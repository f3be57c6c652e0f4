"""What this edge is, as OpenAPI: what it really answers, by its settings. The routes that are here, what credentials
each takes, the bounds on parameters; and, where it has a schema, each typed stream by a path of its own. HEAD and
OPTIONS are wherever GET is."""

from collections.abc import Iterable
from http import HTTPStatus

from sse_fast.access.credentials import IN_QUERY
from sse_fast.access.patterns import Patterns
from sse_fast.edge.openapi_mercure import mercure_paths
from sse_fast.event_rules import MAX_CHANNEL_BYTES, MAX_CHANNELS, MAX_EVENT_TYPE, MAX_ID_BYTES
from sse_fast.protocol.native import MOST_PATTERNS
from sse_fast.protocol.policy import Operations, Policy
from sse_fast.schema.naming import Names, pascal
from sse_fast.schema.openapi import VERSIONS, Components, Json, operation_id
from sse_fast.schema.openapi import parameters_of as channel_parameters
from sse_fast.schema.shape import Document, StreamForm
from sse_fast.settings import Settings
from sse_fast.version import VERSION

CHANNEL: Json = {"type": "string", "minLength": 1, "maxLength": MAX_CHANNEL_BYTES, "pattern": r"^\S+$"}


def openapi(settings: Settings, policy: Policy, document: Document | None, version: str, root: str) -> Json:
    """version: 3.2 or 3.1. root: the path in front of all."""
    return _OpenAPI(settings, policy, document, version).made(root)


class _OpenAPI:
    def __init__(self, settings: Settings, policy: Policy, document: Document | None, version: str) -> None:
        self._settings, self._policy, self._version = settings, policy, version
        access = policy.access
        self._components = Components(document, version=version)
        self._ids = Names()
        self._problem = self._components.add(
            "Problem",
            {
                "type": "object",
                "description": "What went wrong (RFC 9457), in a sentence.",
                "properties": {
                    "type": {"type": "string"},
                    "title": {"type": "string"},
                    "status": {"type": "integer"},
                    "detail": {"type": "string"},
                },
                "required": ["type", "title", "status", "detail"],
            },
        )
        self._schemes: Json = {}
        if access.tokens is not None or access.publishers.keyed:
            kinds = ["a token (JWT)"] * (access.tokens is not None) + ["a publish key"] * access.publishers.keyed
            self._schemes["bearer"] = {
                "type": "http",
                "scheme": "bearer",
                "description": " or ".join(kinds).capitalize(),
            }
        if access.tokens is not None and access.cookie is not None:
            self._schemes["cookie"] = {"type": "apiKey", "in": "cookie", "name": access.cookie}
        if access.tokens is not None and access.in_query:
            self._schemes["query"] = {"type": "apiKey", "in": "query", "name": IN_QUERY}

    def made(self, root: str) -> Json:
        any_event = self._components.media_type("Channel", None)
        paths: Json = {}
        several = self._stream_operation("listen", "Listen to channels, one stream in one order.", any_event)
        several["parameters"] = [*self._channels(), *self._stream_parameters()]
        paths["/sse"] = {"get": several}
        for path, name, names in (
            ("/{channel}", "Channel", ("channel",)),
            ("/{stream}/{name}", "ChannelOf", ("stream", "name")),
        ):
            placed = [{"name": each, "in": "path", "required": True, "schema": CHANNEL} for each in names]
            channel = ":".join(f"{{{each}}}" for each in names)
            one = self._stream_operation(f"listenTo{name}", f"Listen to the channel {channel}.", any_event)
            one["parameters"] = [*placed, *self._stream_parameters()]
            paths[f"/sse{path}"] = {"get": one}
            paths[f"/publish{path}"] = {"post": self._publish_text(f"publishTo{name}", placed)}
        paths["/publish"] = {"post": self._publish_json()}
        typed: Json = {}  # behind those that are always there, whose ids stay as they are
        for stream in self._components.streams:
            typed[f"/sse/{stream['channel']}"] = {"get": self._listening(stream)}
            typed[f"/publish/{stream['channel']}"] = {"post": self._publishing(stream)}
        paths = typed | paths
        if self._policy.mercure is not None:
            paths |= mercure_paths(self._policy.mercure, self._problems, any_event, self._limited())
        paths |= self._beside()
        if self._policy.operations is not Operations.APART or not self._policy.private_schema:
            paths |= self._describing()
        if self._policy.operations is not Operations.APART:
            paths |= self._operating()
        made: Json = {
            "openapi": VERSIONS[self._version],
            "info": {"title": "sse_fast", "version": VERSION, "summary": "A Server-Sent Events edge."},
            "servers": [{"url": root or "/"}],
            "paths": paths,
            "components": {"schemas": self._components.schemas},
        }
        if self._schemes:
            made["components"]["securitySchemes"] = self._schemes
        return made

    # ---- streams -----------------------------------------------------------------------------------------------------

    def _listening(self, stream: StreamForm) -> Json:
        name = pascal(stream["name"])
        summary = f"Listen to the stream {stream['name']}."
        made = self._stream_operation(f"listenTo{name}", summary, self._components.of_stream(stream))
        if described := stream.get("description"):
            made["description"] = described
        # An envelope would be other data.
        made["parameters"] = [*channel_parameters(stream), *self._stream_parameters(envelope=False)]
        return made

    def _stream_operation(self, name: str, summary: str, media: Json) -> Json:
        return {
            "operationId": self._ids.take(operation_id(name)),
            "summary": summary,
            "tags": ["streams"],
            **self._security(self._policy.access.everybody.subscribe, asked=self._policy.access.hook is not None),
            "responses": {
                "200": {
                    "description": "The stream. It has no end but the server's or the client's.",
                    "content": {"text/event-stream": media},
                },
                **self._problems(400, 503, *self._closed(self._policy.access.everybody.subscribe), *self._limited()),
            },
        }

    def _channels(self) -> list[Json]:
        patterns: Json = {"type": "array", "items": CHANNEL, "maxItems": MOST_PATTERNS}
        channels: Json = {"type": "array", "items": CHANNEL, "maxItems": self._policy.max_channels}
        return [
            {"name": "channel", "in": "query", "schema": channels, "description": "A channel; repeat it for more."},
            {
                "name": "pattern",
                "in": "query",
                "schema": patterns,
                "description": "All channels of a pattern: orders:*",
            },
        ]

    def _stream_parameters(self, *, envelope: bool = True) -> list[Json]:
        id: Json = {"type": "string", "maxLength": MAX_ID_BYTES}
        behind = "Resume behind the event of this id; earliest: all that is kept."
        given: list[tuple[str, str, Json, str]] = [
            ("Last-Event-ID", "header", id, behind),
            ("last_event_id", "query", id, f"{behind} The header wins."),
            (
                *("history", "query"),
                {"type": "integer", "minimum": 0, "maximum": self._policy.max_history},
                "First the newest kept events, so many; an id to resume behind wins.",
            ),
            ("allowed", "query", {"enum": ["only"]}, "Leave out what the credential does not grant."),
        ]
        if envelope:
            given.append(("envelope", "query", {"enum": ["json"]}, "Data that says its channel and time, too."))
        return [
            {"name": name, "in": where, "schema": schema, "description": text} for name, where, schema, text in given
        ]

    # ---- publishing --------------------------------------------------------------------------------------------------

    def _publishing(self, stream: StreamForm) -> Json:
        moved = {name: self._components.moved(schema) for name, schema in stream["events"].items()}
        made = self._publish_operation(f"publishTo{pascal(stream['name'])}", f"Publish to the stream {stream['name']}.")
        event: Json = {"name": "event", "in": "query", "required": True, "schema": {"enum": list(moved)}}
        made["parameters"] = [*channel_parameters(stream), event, *self._publish_parameters()]
        schemas = list(moved.values())
        body = schemas[0] if len(schemas) == 1 else {"anyOf": schemas}
        made["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
        made["responses"] = {"200": self._published(), **made["responses"]}
        return made

    def _publish_text(self, name: str, placed: list[Json]) -> Json:
        made = self._publish_operation(name, "Publish one event; the body is its data, as it stands.")
        event: Json = {"name": "event", "in": "query", "schema": {"type": "string", "maxLength": MAX_EVENT_TYPE}}
        made["parameters"] = [*placed, event, *self._publish_parameters()]
        made["requestBody"] = {"content": {"text/plain": {"schema": {"type": "string"}}}}
        made["responses"] = {"200": self._published(), **made["responses"]}
        return made

    def _publish_json(self) -> Json:
        made = self._publish_operation("publish", "Publish an event, or several: all of them or none.")
        made["parameters"] = self._publish_parameters(retry=False)
        channels: Json = {"type": "array", "items": CHANNEL, "minItems": 1, "maxItems": MAX_CHANNELS}
        event = self._components.add(
            "Publication",
            {
                "type": "object",
                "description": "An event for `channel`, or for several `channels`.",
                "properties": {
                    "channel": CHANNEL,
                    "channels": channels,
                    "data": {"description": "A string as that text, any other value as JSON."},
                    "event": {"type": "string", "maxLength": MAX_EVENT_TYPE},
                    "retry": {"type": "integer", "minimum": 0},
                    "key": {"type": "string", "minLength": 1, "maxLength": 255},
                },
                "required": ["data"],
                "additionalProperties": False,
            },
        )
        lines: Json = {"schema": {"type": "string", "description": "A Publication in each line."}}
        if self._version != "3.1":
            lines["itemSchema"] = event
        made["requestBody"] = {
            "required": True,
            "content": {
                "application/json": {"schema": {"anyOf": [event, {"type": "array", "items": event}]}},
                "application/x-ndjson": lines,
            },
        }
        made["responses"] = {"200": self._published(several=True), **made["responses"]}
        return made

    def _publish_operation(self, name: str, summary: str) -> Json:
        granted = self._policy.access.everybody.publish
        late = (422,) if self._settings.idempotency_window else ()
        statuses = (400, 403, 408, 413, 415, *late, 503, *self._closed(granted), *self._limited())
        return {
            "operationId": self._ids.take(operation_id(name)),
            "summary": summary,
            "tags": ["publishing"],
            **self._security(granted),
            "responses": self._problems(*statuses),
        }

    def _publish_parameters(self, *, retry: bool = True) -> list[Json]:
        key: Json = {"name": "Idempotency-Key", "in": "header", "schema": {"type": "string"}}
        key["description"] = "A retry with the same key publishes nothing twice."
        delay: Json = {"name": "retry", "in": "query", "schema": {"type": "integer", "minimum": 0}}
        delay["description"] = "Tells clients this reconnect delay, in milliseconds."
        return [delay] * retry + [key] * bool(self._settings.idempotency_window)

    def _published(self, *, several: bool = False) -> Json:
        one: Json = {"type": "object", "properties": {"id": {"type": "string"}}, "required": ["id"]}
        all_ids: Json = {
            "type": "object",
            "properties": {"ids": {"type": "array", "items": {"type": "string"}}, "repeated": {"type": "integer"}},
            "required": ["ids"],
        }
        schema = {"anyOf": [one, all_ids]} if several else one
        return {"description": "It is in the log.", "content": {"application/json": {"schema": schema}}}

    # ---- beside ------------------------------------------------------------------------------------------------------

    def _beside(self) -> Json:
        state: Json = {"type": "object", "properties": {"status": {"type": "string"}}, "required": ["status"]}
        return {
            "/livez": self._get("livez", "Whether the process answers.", state),
            "/readyz": self._get("readyz", "Whether clients may come.", state, 503, same=state),
            "/healthz": self._get("healthz", "How it is.", state, 503, same=state),
            "/client.js": self._text("client", "The browser client, an ES module.", "text/javascript"),
            "/client.d.ts": self._text("clientTypes", "Its types.", "text/plain"),
            "/": self._text("page", "The live page.", "text/html"),
        }

    def _describing(self) -> Json:
        """What the server is, for tools."""
        found: Json = {"type": "object"}
        unauthorized = (401,) if self._schemes else ()
        refused = (*unauthorized, 403) if self._policy.private_schema else ()
        paths = {
            "/openapi.json": self._get("openapi", "This, as OpenAPI 3.2.", found, *refused),
            "/openapi-3.1.json": self._get("openapi31", "This, as OpenAPI 3.1.", found, *refused),
            "/asyncapi.json": self._get("asyncapi", "The streams, as AsyncAPI 3.", found, *refused),
        }
        if self._components.streams:
            words = "The typed events, as `sse-fast schema` writes them."
            paths["/schema.json"] = self._get("schema", words, found, *refused)
        if self._policy.private_schema and self._schemes:
            for each in paths.values():
                each["get"]["security"] = [*self._alternatives(), {}]
        return paths

    def _text(self, name: str, summary: str, media_type: str) -> Json:
        content: Json = {media_type: {"schema": {"type": "string"}}}
        responses: Json = {"200": {"description": "It is this text.", "content": content}}
        return {"get": {"operationId": name, "summary": summary, "tags": ["server"], "responses": responses}}

    def _get(self, name: str, summary: str, schema: Json, *statuses: int, same: Json | None = None) -> Json:
        responses: Json = {"200": answer("It is said.", schema)}
        for status in statuses:
            responses[str(status)] = (
                answer(HTTPStatus(status).phrase, same) if same else self._problems(status)[str(status)]
            )
        return {"get": {"operationId": name, "summary": summary, "tags": ["server"], "responses": responses}}

    def _operating(self) -> Json:
        """For who operates the server."""

        def operation(name: str, summary: str, schema: Json, *parameters: Json, statuses: Iterable[int] = ()) -> Json:
            return {
                "operationId": name,
                "summary": summary,
                "tags": ["operations"],
                **({"parameters": list(parameters)} if parameters else {}),
                **({"security": [*self._alternatives(), {}]} if self._schemes else {}),
                "responses": {"200": answer("It is done.", schema), **self._problems(400, 403, *statuses)},
            }

        def placed(name: str) -> Json:
            return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}

        def asked(name: str, **schema: object) -> Json:
            return {"name": name, "in": "query", "schema": {"type": "string", **schema}}

        limit = asked("limit", type="integer", minimum=1, maximum=1000)
        which = (asked("channel"), asked("user"), asked("address"))
        found: Json = {"type": "object"}
        unauthorized = (401,) if self._schemes else ()
        statuses = (*unauthorized, 503)
        prefix, before, parked = asked("prefix"), asked("before"), asked("parked", enum=["true"])
        paths: Json = {
            "/channels": {
                "get": operation("channels", "The channels.", found, prefix, limit, before, statuses=statuses)
            },
            "/channels/{name}": {
                "get": operation(
                    "channel", "What there is of a channel.", found, placed("name"), statuses=(*statuses, 404)
                ),
                "delete": operation("forget", "Forget what a channel had.", found, placed("name"), statuses=statuses),
            },
            "/streams": {
                "get": operation(
                    "streams", "The open streams.", found, *which, parked, limit, before, statuses=statuses
                ),
                "delete": operation("endStreams", "End those that these name.", found, *which, statuses=statuses),
            },
            "/streams/{id}": {
                "delete": operation("endStream", "End one.", found, placed("id"), statuses=(*statuses, 404))
            },
            "/stats": {"get": operation("stats", "How the server is doing.", found, statuses=unauthorized)},
            "/stats/history": {
                "get": operation(
                    "history",
                    "The last ten minutes, second by second, in columns.",
                    found,
                    asked("last", type="integer", minimum=1, maximum=600),
                    statuses=unauthorized,
                )
            },
            "/metrics": {"get": operation("metrics", "The same for Prometheus.", found, statuses=unauthorized)},
        }
        text: Json = {"text/plain": {"schema": {"type": "string"}}}
        paths["/metrics"]["get"]["responses"]["200"]["content"] = text
        if self._settings.keeps_presence:
            who = operation(
                "presence", "Who is there.", found, placed("channel"), limit, asked("after"), statuses=(404,)
            )
            paths["/presence/{channel}"] = {"get": who}
        return paths

    # ---- what they have in common ------------------------------------------------------------------------------------

    def _alternatives(self) -> list[Json]:
        return [{name: []} for name in self._schemes]

    def _security(self, granted: Patterns, *, asked: bool = False) -> Json:
        """granted: to everybody. asked: a webhook may let somebody in who has nothing that is said here."""
        if granted.everything or not self._schemes:
            return {}
        return {"security": self._alternatives() + [{}] * bool(granted.texts or asked)}

    def _closed(self, granted: Patterns) -> tuple[int, ...]:
        return () if granted.everything else (401, 403)

    def _limited(self) -> tuple[int, ...]:
        return ((429,) if self._settings.rates else ()) + ((421,) if self._policy.hosts is not None else ())

    def _problems(self, *statuses: int) -> Json:
        return {
            str(status): {
                "description": HTTPStatus(status).phrase,
                "content": {"application/problem+json": {"schema": self._problem}},
            }
            for status in sorted(set(statuses))
        }


def answer(description: str, schema: Json) -> Json:
    return {"description": description, "content": {"application/json": {"schema": schema}}}
