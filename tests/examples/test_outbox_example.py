"""The example of the outbox: an app with SQLAlchemy, a Celery worker, a line of cron."""

import asyncio
import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from conftest import program
from postgres import Postgres

from sse_fast.testing import EventClient

EXAMPLE = Path(__file__).parents[2] / "examples" / "outbox"


@pytest.fixture
def database(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> str:
    dsn = postgres.outbox()
    monkeypatch.setenv("SHOP_DATABASE", dsn.replace("postgresql://", "postgresql+psycopg://"))
    return dsn


@pytest.fixture
def modules(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[ModuleType, ModuleType]]:
    """The app's, and the jobs'."""
    monkeypatch.setenv("SHOP_BROKER", str(tmp_path / "broker"))
    monkeypatch.syspath_prepend(EXAMPLE)
    for name in ("main", "jobs"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    main, jobs = importlib.import_module("main"), importlib.import_module("jobs")
    yield main, jobs
    main.engine.dispose()
    for name in ("main", "jobs"):
        del sys.modules[name]


@pytest.fixture
def worker(modules: object, tmp_path: Path) -> Iterator[None]:
    """A Celery worker."""
    command = [sys.executable, "-m", "celery", "--workdir", str(EXAMPLE), "-A", "jobs", "worker", "--pool", "solo"]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([*command, "--without-gossip", "--without-mingle"], stdout=log, stderr=log)
    yield
    process.kill()
    process.wait()


async def test_what_an_app_a_job_and_a_line_of_cron_have_committed_is_heard_in_its_order(
    worker: None, modules: tuple[ModuleType, ModuleType], database: str
) -> None:
    main, jobs = modules
    async with EventClient(main.app) as client, client.stream("/events") as stream:
        assert (await stream.next()).event == "$connected"
        number = (await client.http.post("/orders", json={"article": "a lamp"})).json()["number"]
        taken = await stream.next(timeout=30)
        assert (taken.event, taken.json()) == ("taken", {"article": "a lamp"})
        for _ in range(2):
            jobs.ship.delay(number)
        shipped = await stream.next(timeout=30)
        assert (shipped.event, shipped.json()) == ("shipped", {"number": number})
        (line,) = re.findall(r'psql shop -c "(.*)"', main.__doc__ or "")
        psql = await asyncio.create_subprocess_exec(program("psql"), database, "-q", "-c", line)
        assert await psql.wait() == 0
        opens = await stream.next(timeout=30)  # and not "shipped" again, though the job came twice
        assert (opens.event, opens.data) == ("opens", "morning")
