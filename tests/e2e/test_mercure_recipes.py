"""docs/coming-from/mercure.md: its commands, which are the documented examples of Symfony and API Platform, as they
stand there."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import documentation
import pytest
from conftest import EdgeProcess, program
from mercure_hubs import KEY, WELL_KNOWN

from sse_fast.transports.life import Transport

PAGE = documentation.PAGES["docs/coming-from/mercure.md"]
RECIPES = dict(re.findall(r"<!-- recipe: (\w+) -->\n```sh\n(.*?)```", PAGE, re.DOTALL))


def words() -> tuple[str, ...]:
    """Behind `sse-fast serve`, of the first recipe."""
    assert f"export KEY='{KEY}'" in RECIPES["serve"]
    given = RECIPES["serve"].replace("\\\n", " ").partition("sse-fast serve ")[2]
    return tuple(given.replace('"$KEY"', KEY).split())


@contextmanager
def serving(directory: Path, *flags: str) -> Iterator[dict[str, str]]:
    """The variables that the recipes take."""
    program("curl")
    edge = EdgeProcess(directory, (*words(), *flags), Transport.NATIVE)
    edge.start()
    try:
        yield os.environ | {"KEY": KEY} | exported(KEY) | {"HUB": f"{edge.url}{WELL_KNOWN}"}
    finally:
        edge.stop()


def exported(key: str) -> dict[str, str]:
    """What the recipe of the variables has set."""
    shell = f"{RECIPES['variables']}\nenv -0"
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", shell], env=os.environ | {"KEY": key, "PATH": path}, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    found = dict(line.partition("=")[::2] for line in done.stdout.split("\0") if line)
    return {name: found[name] for name in ("HUB", "PUBLISHER", "SUBSCRIBER", "ADMINISTRATOR")}


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with serving(tmp_path_factory.mktemp("recipes")) as variables:
        yield variables


def said(recipe: str, environment: dict[str, str], **more: str) -> str:
    done = subprocess.run(
        ["bash", "-c", RECIPES[recipe]], env=environment | more, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def listening(recipe: str, environment: dict[str, str], **more: str) -> Iterator[Iterator[str]]:
    """The lines that a recipe's stream has, from its head on."""
    command = RECIPES[recipe].replace("curl -N", "exec curl -sSN --max-time 60 -D /dev/stdout")
    with subprocess.Popen(
        ["bash", "-c", command], env=environment | more, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        lines = map(str.strip, process.stdout)
        assert " 200 " in next(lines)
        try:
            yield lines
        finally:
            process.kill()


def data(lines: Iterator[str]) -> str:
    return next(line for line in lines if line.startswith("data:")).removeprefix("data:").strip()


def test_every_recipe_is_played() -> None:
    assert set(RECIPES) == {"serve", "variables", "listen", "publish", "private", "cookie", "resume", "subscriptions"}
    assert PAGE.count("```sh") == len(RECIPES)


def test_what_an_app_publishes_is_heard_and_who_comes_back_gets_what_it_missed(environment: dict[str, str]) -> None:
    with listening("listen", environment) as lines:
        id = said("publish", environment)
        assert json.loads(data(lines)) == {"status": "OutOfStock"}
    said("publish", environment)
    with listening("resume", environment, ID=id) as lines:
        assert json.loads(data(lines)) == {"status": "OutOfStock"}


def test_a_private_update_is_heard_by_the_cookie_of_its_owner_and_not_without(environment: dict[str, str]) -> None:
    with listening("listen", environment) as anybody, listening("cookie", environment) as owner:
        said("private", environment)
        said("publish", environment)
        assert json.loads(data(owner))["title"] == "1984"
        assert json.loads(data(anybody)) == {"status": "OutOfStock"}


def test_who_listens_is_listed(environment: dict[str, str]) -> None:
    with listening("listen", environment):
        listed = json.loads(said("subscriptions", environment))["subscriptions"]
    topics = {one.get("topic") or one.get("match") for one in listed}
    assert {"https://example.com/books/1", "https://example.com/users/{id}"} <= topics


def test_a_topic_is_a_channel(tmp_path: Path) -> None:
    channel = "https%3A%2F%2Fexample.com%2Fbooks%2F1"
    assert f"GET /sse?channel={channel}" in PAGE
    with serving(tmp_path, "--grant-subscribe", "https:**") as environment:
        root = environment["HUB"].removesuffix(WELL_KNOWN)
        command = ["curl", "-sSN", "--max-time", "60", f"{root}/sse?channel={channel}"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            lines = map(str.strip, process.stdout)
            try:
                assert data(lines)  # of $connected
                id = said("publish", environment)
                assert json.loads(data(lines)) == {"status": "OutOfStock"}
            finally:
                process.kill()
        with listening("resume", environment, ID="earliest") as lines:
            assert next(line for line in lines if line.startswith("id:")) == f"id: {id}"
