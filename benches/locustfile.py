"""Scenarios for locust, each a way that load comes to an SSE server:

    locust -f benches/locustfile.py Fanout --headless -u 10 -r 10 -t 30s --host http://127.0.0.1:8000

Fanout: one channel, every event to all streams. Channels: a channel for every stream. Storm: all streams are cut at
once, and come back. Deploy: the server is restarted under load. Notifications: one stream a user, in Python.

The scenarios speak to `sse-fast serve`; for another server give --subscribe and --publish (see --help), or write a
class of your own like these. With --processes or with workers on other machines there are as many streams more.
"""

import logging
import random
import shlex
import signal
import subprocess
import time
from typing import Any
from urllib.parse import urlsplit

import gevent
from gevent import socket
from locust import between, events, task
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.runners import WorkerRunner

from sse_fast import ReceivedEvent
from sse_fast.bench.locust import SSEUser, SwarmUser

PATIENCE = 30.0  # for a server to start or to stop


@events.init_command_line_parser.add_listener
def add_options(parser: LocustArgumentParser) -> None:
    options = parser.add_argument_group("SSE")
    options.add_argument("--connections", type=int, default=1000, help="Streams of each user.")
    options.add_argument("--rate", type=float, default=10.0, help="Events per second of each publisher.")
    options.add_argument("--size", type=int, default=64, help="Bytes of a payload, at least 59.")
    options.add_argument("--every", type=float, default=10.0, help="Seconds between two storms, or two restarts.")
    options.add_argument("--away", type=float, default=1.0, help="Storm: seconds until the streams come back.")
    options.add_argument("--subscribe", default="", help="Where streams are; may contain {user} and {channel}.")
    options.add_argument("--publish", default="", help="Where events are published; likewise.")
    options.add_argument("--body", default="{data}", help="What is published: {data} as it stands, {json} as a string.")
    options.add_argument("--content-type", default="text/plain", help="The type of that body.")
    options.add_argument(
        "--deploy", default="", metavar="COMMAND", help="Deploy: starts the server; without it you restart yours."
    )


class Scenario(SwarmUser):
    """The options of the command line, or of locust's page."""

    abstract = True

    def on_start(self) -> None:
        options = self.environment.parsed_options
        self.connections, self.rate, self.size = options.connections, options.rate, options.size
        self.subscribe = options.subscribe or self.subscribe
        self.publish = options.publish or self.publish
        self.body, self.content_type = options.body, options.content_type
        super().on_start()


class Fanout(Scenario):
    """A notification to everybody: all streams of all users and workers listen to one channel."""


class Channels(Scenario):
    """A channel for every stream; events go to them in turn."""

    subscribe = "/sse/user-{user}-{channel}"
    publish = "/publish/user-{user}-{channel}"

    def on_start(self) -> None:
        self.channels = self.environment.parsed_options.connections
        super().on_start()


class Storm(Scenario):
    """Streams are cut, all at the same time by the clock, over all users and workers; events go on; all come back."""

    @task
    def storm(self) -> None:
        every = self.environment.parsed_options.every
        gevent.sleep(every - time.time() % every)
        self.cut()
        gevent.sleep(self.environment.parsed_options.away)
        self.come_back()


class Deploy(Scenario):
    """The server is restarted while events flow: by --deploy 'sse-fast serve --port 8000', or by you, if without.

    Failures of "publish" and "reconnect" are the time that it takes. "lost" should be no more than the streams times
    the events whose publishing was not answered: nobody knows of them, and they leave a hole in the numbers.
    """


class Notifications(SSEUser):
    """An EventSource for each user, and every now and then a user who publishes to all."""

    path = "/sse/notifications"
    wait_time = between(1, 5)

    @task
    def publish(self) -> None:
        event = {"channel": "notifications", "data": {"sent_at": time.time(), "text": random.choice(("hi", "hello"))}}
        self.client.post("/publish", json=event)

    def on_event(self, event: ReceivedEvent) -> None:
        if event.event == "message" and "sent_at" not in event.json():
            raise ValueError(f"somebody else publishes here: {event.data}")


# ---- the server of a deploy ------------------------------------------------------------------------------------------


class Restarts:
    """The server of --deploy, by one command, restarted again and again. On the machine of the locust master."""

    def __init__(self, command: str, host: str, every: float) -> None:
        self.command, self.every = shlex.split(command), every
        address = urlsplit(host)
        self.address = (address.hostname, address.port or 80)
        self._start()
        self.greenlet = gevent.spawn(self._go_on)

    def _start(self) -> None:
        self.process = subprocess.Popen(self.command)
        with gevent.Timeout(PATIENCE, RuntimeError(f"nothing listens on {self.address}")):
            while True:
                try:
                    socket.create_connection(self.address, timeout=1).close()
                    return
                except OSError:
                    if self.process.poll() is not None:
                        raise RuntimeError(f"{self.command} exited with {self.process.returncode}") from None
                    gevent.sleep(0.05)

    def _stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _go_on(self) -> None:
        while True:
            gevent.sleep(self.every)
            logging.info("restarting %s", self.command[0])
            self._stop()
            self._start()

    def end(self) -> None:
        self.greenlet.kill()
        self._stop()


@events.test_start.add_listener
def start_the_server(environment: Environment, **_: Any) -> None:
    options = environment.parsed_options
    if options.deploy and Deploy in environment.user_classes and not isinstance(environment.runner, WorkerRunner):
        restarts = Restarts(options.deploy, environment.host or "", options.every)

        def stop(**_: Any) -> None:
            environment.events.test_stop.remove_listener(stop)
            restarts.end()

        environment.events.test_stop.add_listener(stop)
