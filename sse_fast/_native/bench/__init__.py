"""The load client."""

from sse_fast._native.base import need_linux

need_linux("the load client")
