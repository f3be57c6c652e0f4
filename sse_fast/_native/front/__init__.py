"""The sockets that this project owns: connections and their listener."""

from sse_fast._native.base import need_linux

need_linux("the native front")
