"""Typed events: a class is an event, and a stream binds a template of channels to the events they carry."""

from sse_fast.schema.definitions import Channel, Stream, stream
from sse_fast.schema.document import document_of, read_schema

__all__ = ["Channel", "Stream", "document_of", "read_schema", "stream"]
