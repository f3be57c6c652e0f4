"""Documents of typed events, for those who read them."""

from typing import Any

SHOP: dict[str, Any] = {
    "sse_fast": 1,
    "streams": [
        {
            "name": "Comments",
            "channel": "item:{item_id}",
            "parameters": {"item_id": {"type": "string"}},
            "events": {
                "CommentAdded": {"$ref": "#/$defs/CommentAdded"},
                "CommentUpdated": {"$ref": "#/$defs/CommentUpdated"},
                "SystemAlert": {"$ref": "#/$defs/SystemAlert"},
            },
            "description": "What is said about an item.",
        },
        {
            "name": "Notifications",
            "channel": "shop-{shop}:user:{user_id}",
            "parameters": {"shop": {"type": "string"}, "user_id": {"type": "integer"}},
            "events": {
                "order.paid": {"$ref": "#/$defs/Order"},
                "order.sent": {"$ref": "#/$defs/Order"},
                "SystemAlert": {"$ref": "#/$defs/SystemAlert"},
            },
        },
        {
            "name": "news",
            "channel": "news",
            "parameters": {},
            "events": {"headline": {"type": "string"}, "ticker": {"type": "array", "items": {"type": "number"}}},
        },
    ],
    "$defs": {
        "CommentAdded": {
            "type": "object",
            "description": 'Somebody said something.\n\nIt ends */ here -} or """ there.',
            "properties": {
                "comment_id": {"type": "string"},
                "item_id": {"type": "string"},
                "author": {"$ref": "#/$defs/Author"},
                "text": {"type": "string", "description": "As it was written."},
                "timestamp": {"type": "integer"},
                "at": {"type": "string", "format": "date-time"},
                "reply_to": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None},
                "tags": {"type": "array", "items": {"$ref": "#/$defs/Tag"}},
                "mood": {"$ref": "#/$defs/Mood"},
                "thread": {"$ref": "#/$defs/Thread"},
                "votes": {"type": "object", "additionalProperties": {"type": "integer"}},
                "place": {"type": "array", "prefixItems": [{"type": "number"}, {"type": "string"}]},
                "class": {"type": "string"},
                "the-edit": {"type": ["string", "integer", "null"]},
            },
            "required": ["comment_id", "item_id", "author", "text", "timestamp", "tags", "mood"],
        },
        "CommentUpdated": {
            "type": "object",
            "properties": {
                "comment_id": {"type": "string"},
                "new_text": {"type": "string"},
                "by": {
                    "type": "object",
                    "properties": {"name": {"type": "string"}, "role": {"enum": ["admin", "author", 'the "other"']}},
                    "required": ["name"],
                },
                "anything": True,
            },
            "required": ["comment_id", "new_text", "by"],
        },
        "Author": {
            "type": "object",
            "properties": {"name": {"type": "string"}, "verified": {"type": "boolean"}},
            "required": ["name", "verified"],
        },
        "Tag": {"type": "string"},
        "Mood": {"enum": ["glad", "sad", "so-so"], "description": "How it was meant."},
        "Thread": {
            "type": "object",
            "properties": {
                "title": {"type": "string"},
                "answers": {"type": "array", "items": {"$ref": "#/$defs/Thread"}},
            },
            "required": ["title", "answers"],
        },
        "SystemAlert": {"type": "object", "properties": {}},
        "Order": {
            "allOf": [
                {"$ref": "#/$defs/Numbered"},
                {
                    "type": "object",
                    "properties": {
                        "payment": {
                            "oneOf": [{"$ref": "#/$defs/Card"}, {"$ref": "#/$defs/Cash"}],
                            "discriminator": {"propertyName": "kind"},
                        },
                        "lines": {"type": "array", "items": {"$ref": "#/$defs/Error"}},
                    },
                    "required": ["payment", "lines"],
                },
            ]
        },
        "Numbered": {
            "type": "object",
            "properties": {"number": {"type": "integer"}, "state": {"const": "open"}},
            "required": ["number"],
        },
        "Card": {
            "type": "object",
            "properties": {"kind": {"const": "card"}, "last_four": {"type": "string"}},
            "required": ["kind", "last_four"],
        },
        "Cash": {
            "type": "object",
            "properties": {"kind": {"const": "cash"}, "level": {"enum": [1, 2, 3]}},
            "required": ["kind"],
        },
        # Names that mean something in one language or another, and one that is near another.
        "Error": {"type": "object", "properties": {"type": {"type": "string"}, "price": {"type": "number"}}},
        "comment-added": {"type": "object", "properties": {"import": {"type": "boolean"}}, "required": ["import"]},
        "Json": {
            "anyOf": [
                {"type": "string"},
                {"type": "array", "items": {"$ref": "#/$defs/Json"}},
                {"type": "object", "additionalProperties": {"$ref": "#/$defs/Json"}},
                {"type": "null"},
            ]
        },
    },
}

COMMENT: dict[str, Any] = {
    "comment_id": "c1",
    "item_id": "7",
    "author": {"name": "Ada", "verified": True},
    "text": "fine — 🐝",
    "timestamp": 1795381200,
    "at": "2026-11-22T13:35:09Z",
    "tags": ["a", "b"],
    "mood": "so-so",
    "thread": {"title": "t", "answers": [{"title": "u", "answers": []}]},
    "votes": {"up": 2},
    "place": [1.5, "here"],
    "class": "first",
    "the-edit": 3,
}
UPDATED: dict[str, Any] = {
    "comment_id": "c1",
    "new_text": "better",
    "by": {"name": "Bob", "role": "admin"},
    "anything": {"x": [1]},
}
ORDER: dict[str, Any] = {"number": 5, "payment": {"kind": "cash", "level": 2}, "lines": [{"type": "x", "price": 1.5}]}

# Each of these means something to a language, to what is carried in a client, or to neither but is no name at all.
WORDS = (
    *(
        "class",
        "def",
        "import",
        "in",
        "is",
        "None",
        "match",
        "type",
        "delete",
        "default",
        "function",
        "new",
        "let",
        "of",
    ),
    *(
        "port",
        "exposing",
        "infix",
        "case",
        "true",
        "not",
        "self",
        "cls",
        "decode",
        "fields",
        "value",
        "at",
        "print",
        "str",
    ),
    *("Event", "Gap", "Stream", "StreamError", "StreamState", "StreamUpdate", "Received", "Lost", "Unknown", "Open"),
    *(
        "Error",
        "Promise",
        "Array",
        "Record",
        "Response",
        "Date",
        "Map",
        "Subscription",
        "Handlers",
        "Token",
        "Connection",
    ),
    *(
        "Order",
        "Maybe",
        "Just",
        "List",
        "Int",
        "Cmd",
        "Sub",
        "Dict",
        "Decoder",
        "Result",
        "Ok",
        "T",
        "Data",
        "Name",
        "Any",
    ),
    *(
        "subscribe",
        "iterate",
        "required",
        "optional",
        "object",
        "command",
        "updateOf",
        "httpx",
        "asyncio",
        "json",
        "re",
    ),
    *(
        "1st",
        "order paid",
        "order-paid",
        "order_paid",
        "orderPaid",
        "größe",
        "日本",
        "-}",
        "*/",
        '"""',
        "\\",
        "'",
        "__proto__",
    ),
    *("constructor", "toString", "_private", "__init__", "a/b", "$ref", "{x}", "`", "${x}", "\u2028"),
)
HOSTILE: dict[str, Any] = {
    "sse_fast": 1,
    "streams": [
        {
            "name": name,
            "channel": f"hostile-{number}:{{{parameter}}}:{{url}}",
            "parameters": {parameter: {"type": "string"}, "url": {"type": "integer"}},
            "events": {
                word: {"$ref": f"#/$defs/{word}"} if each % 2 else {"enum": [word, "another"]}
                for each, word in enumerate(WORDS)
                if not word.startswith("$") and each % 4 == number % 4
            },
            "description": '*/ -} """ \\ ` ${x}',
        }
        for number, (name, parameter) in enumerate(
            (
                *(("delete", "type"), ("class", "token"), ("Stream", "self"), ("subscribe", "port")),
                *(("print", "in"), ("default", "last_event_id"), ("T", "history"), ("comments", "client")),
            )
        )
    ],
    "$defs": {
        word: {
            "type": "object",
            "description": f"ends */ -}} with {word}",
            "properties": {word: {"type": "string"}, "other": {"$ref": "#/$defs/Order"}}
            | {
                each: {"type": ["integer", "null"], "description": '*/ -} """ \\'}
                for each in WORDS[number : number + 3]
            },
            "required": [word],
        }
        for number, word in enumerate(WORDS)
    },
}
