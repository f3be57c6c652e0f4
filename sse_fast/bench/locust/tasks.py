"""Users whose streams go on beside their tasks need none."""

from typing import Any

import gevent
from locust import User


def stay(user: User) -> None:
    """The task of a user without any: its streams go on by themselves."""
    gevent.sleep(1)


def tasks_or_stay(user: type[User]) -> list[Any]:
    """The tasks of a class; it inherits `stay` from one that had none."""
    return [task for task in user.tasks if task is not stay] or [stay]
