"""Mercure's endpoints, as OpenAPI has them."""

from collections.abc import Callable

from sse_fast.access.mercure import METADATA_PATH, PATH, MercureAccess
from sse_fast.access.mercure_grants import V7, V8
from sse_fast.event_rules import MAX_CHANNEL_BYTES, MAX_CHANNELS, MAX_EVENT_TYPE, MAX_ID_BYTES
from sse_fast.protocol.mercure import FORM, MOST_MATCHERS, SUBSCRIPTIONS
from sse_fast.schema.openapi import Json

TEXT: Json = {"type": "string"}
TOPIC: Json = {"type": "string", "minLength": 1, "maxLength": MAX_CHANNEL_BYTES}
TAGS = ["mercure"]
AT_THE_ROOT: Json = {"servers": [{"url": "/"}]}  # wherever the edge is beside an app


def mercure_paths(access: MercureAccess, problems: Callable[..., Json], media: Json, limited: tuple[int, ...]) -> Json:
    """`problems`: the answers of these statuses. `media`: of a stream."""
    stream: Json = {
        "operationId": "listenByMercure",
        "summary": "Listen to topics, by Mercure.",
        "tags": TAGS,
        "parameters": _parameters(access),
        "responses": {
            "200": {"description": "The stream.", "content": {"text/event-stream": media}},
            **problems(400, 401, 403, 503, *limited),
        },
    }
    update: Json = {
        "operationId": "publishByMercure",
        "summary": "Publish an update, by Mercure.",
        "tags": TAGS,
        "requestBody": {"required": True, "content": {FORM: {"schema": _update()}}},
        "responses": {
            "200": {"description": "The update's id.", "content": {"text/plain": {"schema": TEXT}}},
            **problems(400, 401, 403, 413, 503, *limited),
        },
    }
    paths: Json = {PATH: {**AT_THE_ROOT, "get": stream, "post": update}}
    if V8 in access.versions:
        told = {"200": _json("What the hub is (RFC 9728).")}
        paths[METADATA_PATH] = {**AT_THE_ROOT, "get": _get("mercureMetadata", "Protected resource metadata.", told)}
    if access.subscriptions:
        listed = {"200": _json("Who listens."), **problems(401, 403, 404)}
        summary = "Who listens by Mercure, all or those below: of a matcher, and a subscriber."
        paths[SUBSCRIPTIONS] = {**AT_THE_ROOT, "get": _get("mercureSubscriptions", summary, listed)}
    return paths


def _parameters(access: MercureAccess) -> list[Json]:
    several: Json = {"type": "array", "items": TOPIC, "maxItems": MOST_MATCHERS}
    named: dict[str, str] = {}
    if V8 in access.versions:
        named |= {"match": "A topic.", "match_urlpattern": "A URL pattern of topics.", "last_event_id": "Draft 08."}
    if V7 in access.versions:
        named |= {"topic": "A topic, or a URI template of topics.", "lastEventID": "Draft 07."}
    return [
        {
            "name": name,
            "in": "query",
            "description": said,
            "schema": {"type": "string", "maxLength": MAX_ID_BYTES} if name.startswith("last") else several,
        }
        for name, said in named.items()
    ]


def _update() -> Json:
    return {
        "type": "object",
        "properties": {
            "topic": {"type": "array", "items": TOPIC, "minItems": 1, "maxItems": MAX_CHANNELS},
            "data": TEXT,
            "private": {"type": "string", "description": "There, whatever it is: for who is granted a topic alone."},
            "id": {"type": "string", "maxLength": MAX_ID_BYTES},
            "type": {"type": "string", "maxLength": MAX_EVENT_TYPE},
            "retry": {"type": "string", "pattern": "^[0-9]+$"},
        },
        "required": ["topic"],
    }


def _get(name: str, summary: str, responses: Json) -> Json:
    return {"operationId": name, "summary": summary, "tags": TAGS, "responses": responses}


def _json(description: str) -> Json:
    return {"description": description, "content": {"application/json": {"schema": {"type": "object"}}}}
