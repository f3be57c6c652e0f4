"""Typed streams as AsyncAPI 3: of each stream where to listen and where to publish, and its messages."""

from typing import Any

from sse_fast.schema.naming import camel, pascal
from sse_fast.schema.openapi import Components, Json, rewritten
from sse_fast.schema.shape import Document, StreamForm

VERSION = "3.0.0"


def asyncapi(
    document: Document | None, *, info: Json, host: str, root: str = "", secured: bool = False, tls: bool = False
) -> Json:
    """The document of a server that streams `document`, or, without one, any channel. host: with the port; a name that
    whoever reads it may put another in for. root: the path in front of all."""
    components = Components(document, version="3.1")
    streams = components.streams or [ANY_CHANNEL]
    made: Json = {
        "asyncapi": VERSION,
        "info": info,
        "defaultContentType": "application/json",
        "servers": {"edge": server(host, root, secured, tls)},
        "channels": {},
        "operations": {},
    }
    messages: Json = {}
    for stream in streams:
        add_stream(made, messages, components, stream)
    schemes = {"bearer": {"type": "http", "scheme": "bearer"}} if secured else {}
    made["components"] = {
        "messages": messages,
        "schemas": {name: in_draft_7(schema) for name, schema in components.schemas.items()},
    }
    if schemes:
        made["components"]["securitySchemes"] = schemes
    return made


ANY_CHANNEL: StreamForm = {
    "name": "Channel",
    "channel": "{channel}",
    "parameters": {"channel": {"type": "string"}},
    "events": {"message": True},
    "description": "Any channel: its events have any names, and any text as their data.",
}


def server(host: str, root: str, secured: bool, tls: bool) -> Json:
    made: Json = {
        "host": "{host}",
        "protocol": "https" if tls else "http",
        "description": "Server-Sent Events over HTTP.",
        "variables": {"host": {"default": host, "description": "By which name and port the server is reached."}},
    }
    if root:
        made["pathname"] = root
    if secured:
        made["security"] = [{"$ref": "#/components/securitySchemes/bearer"}]
    return made


def add_stream(made: Json, messages: Json, components: Components, stream: StreamForm) -> None:
    base, name = pascal(stream["name"]), camel(stream["name"])
    named = {}
    for event, schema in stream["events"].items():
        key = free(f"{base}{pascal(event)}", messages)
        messages[key] = {
            "name": event,
            "title": event,
            "contentType": "application/json",
            "payload": in_draft_7(components.moved(schema)),
        }
        named[key] = {"$ref": f"#/components/messages/{key}"}
    parameters = {each: {"description": f"A {schema['type']}."} for each, schema in stream["parameters"].items()}
    for verb, path, action, binding in (
        ("listenTo", "/sse/", "send", {"method": "GET"}),
        ("publishTo", "/publish/", "receive", {"method": "POST"}),
    ):
        channel = free(name if verb == "listenTo" else f"{name}Publishing", made["channels"])
        made["channels"][channel] = {
            "address": path + stream["channel"],
            "title": stream["name"],
            **({"description": stream["description"]} if stream.get("description") else {}),
            **({"parameters": parameters} if parameters else {}),
            "messages": named,
        }
        http: Json = {**binding, "bindingVersion": "0.3.0"}
        if action == "receive":
            http["query"] = {"type": "object", "properties": {"event": {"type": "string"}}}
        made["operations"][free(f"{verb}{base}", made["operations"])] = {
            "action": action,
            "channel": {"$ref": f"#/channels/{channel}"},
            "messages": [{"$ref": f"#/channels/{channel}/messages/{key}"} for key in named],
            "bindings": {"http": http},
        }


def free(name: str, taken: Json) -> str:
    number, wanted = 2, name
    while name in taken:
        name, number = f"{wanted}{number}", number + 1
    return name


def in_draft_7(schema: Any) -> Json:
    """As AsyncAPI's own schemas are, a superset of draft 7: there `prefixItems` is `items`, there is no
    `discriminator` but by a name, and one that allows anything is an object, too."""
    if isinstance(schema, bool):
        return {} if schema else {"not": {}}
    made: Json = rewritten(schema, _in_draft_7)
    return made


def _in_draft_7(schema: Json) -> Json:
    if isinstance(schema.get("discriminator"), dict):
        del schema["discriminator"]
    if "prefixItems" in schema:
        first = schema.pop("prefixItems")
        if "items" in schema:
            schema["additionalItems"] = schema["items"]
        schema["items"] = first
    return schema
