"""Users for locust (https://locust.io) that load-test any SSE server. All they report has the request type "SSE".

`SSEUser` is one EventSource in Python, for tests that look into events. `SwarmUser` is as many streams as you like on
one native thread, which holds every stream to what it must receive; what is right is said in src_ext/bench/swarm.pyx.
Both come back with their Last-Event-ID when the server ends a stream.

What is never done: to call a time between two events a latency, and to keep gevent's hub waiting. The native thread
runs without the GIL; what it counts is read twice a second and added to locust's statistics in bulk.
"""

from sse_fast.bench.locust.event_source import SSEUser
from sse_fast.bench.locust.swarm import SwarmUser

__all__ = ["SSEUser", "SwarmUser"]
