"""A machine's server with all its workers: how it starts, what they share, how it restarts and ends."""

from sse_fast._native.base import need_linux

need_linux("`sse-fast serve`, with its front, its workers, and a log that they share or that is in a file,")
