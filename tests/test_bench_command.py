"""`sse-fast bench`: what it says before, of and after a run."""

import asyncio
import io
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from datetime import UTC, datetime
from pathlib import Path
from threading import Event

import orjson
import pytest
from click.testing import CliRunner
from click.testing import Result as Done
from rich.console import Console

from sse_fast.bench import Broadcast, Channels, Churn, Hold, InvalidPlan, Mode, Plan, Result, Slow, Storm, Target, run
from sse_fast.bench.cli import target_of
from sse_fast.bench.results import Timing
from sse_fast.bench.runner import Progress
from sse_fast.bench.server import Edge
from sse_fast.bench.terminal import results_console, show
from sse_fast.cli.main import main

KEY = "k-5-very-secret"
BRIEF = ["-n", "2", "--seconds", "0.2", "--warm-up", "0", "--settle", "0"]


def bench(*words: str) -> Done:
    return CliRunner().invoke(main, ["bench", *words])


# ---- before it runs --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["--html", "--json"])
def test_a_file_that_cannot_be_written_ends_a_run_before_it_begins(option: str, tmp_path: Path) -> None:
    missing = tmp_path / "no such folder" / "result"
    done = bench("hold", option, str(missing), "http://127.0.0.1:1")
    assert done.exit_code == 2
    assert f"{missing} cannot be written: No such file or directory" in done.output.replace("\n", " ")
    assert "WRONG" not in done.output


def test_a_file_that_can_be_written_is_neither_made_nor_changed_by_trying(tmp_path: Path) -> None:
    kept, fresh = tmp_path / "kept.json", tmp_path / "fresh.html"
    kept.write_text("of the last run")
    assert bench("broadcast", "--size", "1", "--json", str(kept), "--html", str(fresh)).exit_code == 2
    assert kept.read_text() == "of the last run"
    assert not fresh.exists()


@pytest.mark.parametrize(
    ("mode", "says"),
    [
        (Broadcast(rate=0), "rate is more than 0 events a second"),
        (Broadcast(rate=-1.0), "rate is more than 0 events a second"),
        (Broadcast(rate=float("nan")), "rate is more than 0 events a second"),
        (Broadcast(rate=float("inf")), "rate is more than 0 events a second"),
        (Churn(rate=0), "rate is more than 0 events a second"),
        (Churn(comes=0), "comes is more than 0 streams a second"),
        (Churn(life=0), "life is more than 0 seconds"),
        (Storm(away=-1), "away is 0 or more"),
        (Slow(every=-1), "every is 0 or more"),
        (Broadcast(seconds=float("inf")), "seconds is 0 or more"),
        (Broadcast(events=-1), "events is 0 or more"),
    ],
)
def test_a_pace_at_which_nothing_could_happen_is_refused_in_words(mode: Mode, says: str) -> None:
    with pytest.raises(InvalidPlan, match=says):
        Plan(mode).check()


@pytest.mark.parametrize("name", ["patience", "settle", "drain", "connect_rate", "reconnect"])
@pytest.mark.parametrize("seconds", [float("nan"), float("inf")])
def test_a_time_that_never_comes_is_refused_in_words(name: str, seconds: float) -> None:
    with pytest.raises(InvalidPlan, match=name):
        Plan(**{name: seconds}).check()


def test_help_without_the_extra_says_what_bench_does_and_what_to_install() -> None:
    without = (
        "import sys; sys.modules['hdrh'] = None; from sse_fast.cli.main import main; main(['bench', *sys.argv[1:]])"
    )
    helped = subprocess.run([sys.executable, "-c", without, "--help"], capture_output=True, text=True, check=False)
    assert helped.returncode == 0, helped.stderr
    assert "Hold thousands of SSE streams" in helped.stdout
    assert "pip install 'sse-fast[bench]'" in " ".join(helped.stdout.split())
    tried = subprocess.run([sys.executable, "-c", without, "hold"], capture_output=True, text=True, check=False)
    assert tried.returncode == 1
    assert "pip install 'sse-fast[bench]'" in " ".join(tried.stderr.split())


# ---- the key ---------------------------------------------------------------------------------------------------------


def named(url: str, publish: str | None = None, *publish_headers: str) -> tuple[tuple[str, str], ...]:
    given = {"url": url, "publish_url": publish, "key": KEY, "headers": (), "publish_header": publish_headers}
    target = target_of(given | {"method": "POST", "body": "{data}", "content_type": "text/plain"})
    assert target is not None
    assert target.headers == ()
    return target.publish_headers


def test_the_publish_key_goes_to_an_edge_and_to_nobody_else() -> None:
    bearer = (("Authorization", f"Bearer {KEY}"),)
    assert named("http://a:1") == bearer
    assert named("http://a:2", "http://a:1") == bearer
    assert named("http://a:1", None, "Authorization: Bearer other") == (("Authorization", "Bearer other"),)
    assert named("http://a:1/events", "http://a:1/publish") == ()
    assert named("http://a:1", "http://a:1/publish") == ()


@pytest.mark.parametrize(
    "words",
    [
        ["http://a:1/events/{channel}", "--publish", "http://a:1/publish/{channel}"],
        ["http://a:1", "--publish-header", "Authorization: Bearer other"],
        [],
    ],
)
def test_a_key_that_is_given_and_would_not_be_sent_is_refused(words: list[str]) -> None:
    refused = bench("broadcast", *BRIEF, "--key", KEY, *words)
    assert refused.exit_code == 2
    assert "--key" in refused.output
    assert not words or "without an Authorization of your own" in refused.output
    assert KEY not in refused.output


def test_a_key_of_the_environment_is_for_edges_and_keeps_no_other_run_from_beginning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SSE_FAST_PUBLISH_KEY", KEY)
    done = bench("broadcast", *BRIEF, "http://127.0.0.1:1/s", "--publish", "http://127.0.0.1:1/p")
    assert "--key" not in done.output
    assert "Connection refused" in done.output


@pytest.fixture(scope="module")
def locked_edge() -> Iterator[str]:
    with Edge("--publish-key", KEY) as edge:
        yield f"http://127.0.0.1:{edge.port}"


def test_an_edge_with_a_key_is_measured_with_the_key_of_the_environment(
    locked_edge: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, page = tmp_path / "result.json", tmp_path / "result.html"
    without = bench("broadcast", *BRIEF, "--drain", "0.2", locked_edge)
    assert without.exit_code == 1
    assert "HTTP/1.1 401" in without.output
    assert "--key or SSE_FAST_PUBLISH_KEY" in without.output
    monkeypatch.setenv("SSE_FAST_PUBLISH_KEY", KEY)
    done = bench("broadcast", *BRIEF, "--json", str(made), "--html", str(page), locked_edge)
    assert done.exit_code == 0, done.output
    assert orjson.loads(made.read_bytes())["figures"]["events"] > 0
    assert KEY not in made.read_text() + page.read_text() + done.output


# ---- what it says of a run -------------------------------------------------------------------------------------------


def test_events_that_were_refused_are_no_events_and_never_fewer_than_none() -> None:
    with Edge() as edge:
        url = f"http://127.0.0.1:{edge.port}"
        flood = ("--publishers", "200", "--rate", "100000", "--warm-up", "0.01", "--seconds", "0.1")
        done = bench("broadcast", "-n", "2", *flood, f"{url}/sse/a", "--publish", f"{url}/nothing")
    assert done.exit_code == 1
    assert "HTTP/1.1 404" in done.output
    assert re.search(r"events per second +│ +0\.0 ", done.output), done.output
    assert not re.search(r"│ +-", done.output)


def test_a_server_at_its_limit_is_said_to_be_at_it_and_its_streams_are_not_called_broken(tmp_path: Path) -> None:
    made = tmp_path / "result.json"
    with Edge("--max-connections", "3") as edge:
        url = f"http://127.0.0.1:{edge.port}"
        done = bench("hold", "-n", "8", "--seconds", "0.2", "--settle", "0.5", "--json", str(made), url)
    assert done.exit_code == 1
    assert "5 streams that the server turned away: it has as many as it may" in " ".join(done.output.split())
    result = orjson.loads(made.read_bytes())
    assert [(problem["kind"], problem["count"]) for problem in result["problems"]] == [("at_limit", 5)]
    assert (result["figures"]["connections"], result["figures"]["connects"]) == (3, 8)


def test_where_nothing_opened_a_run_ends_at_once_and_says_so() -> None:
    done = bench("broadcast", "-n", "3", "--seconds", "3600", "http://127.0.0.1:1")
    assert done.exit_code == 1
    assert "no stream could be opened, so nothing was measured" in done.output
    assert "3 connections that were refused" in done.output
    assert "published" not in done.output


def test_a_server_that_never_answers_is_waited_for_once_however_many_waves_of_streams_there_are() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:  # the kernel takes the connections; nobody reads
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        waves = ("-n", "6", "--connecting", "2", "--patience", "0.5")
        done = bench("broadcast", *waves, f"{url}/sse", "--publish", f"{url}/publish")
    assert done.exit_code == 1
    waited = re.search(r"WRONG: (\d) connections without a response head in time", done.output)
    assert waited is not None, done.output
    assert int(waited[1]) < 6
    assert "no stream could be opened, so nothing was measured" in done.output


def test_streams_that_are_told_late_that_they_are_too_many_are_counted_once() -> None:
    """Of two streams the second is turned away, and cut off only after the streams were counted."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
    away = b'event: $closing\ndata: {"reason":"overloaded"}\n\n'
    counted = Event()

    def watch(step: Progress) -> None:
        if step.phase == "hold":
            counted.set()

    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as pool:
        target = Target(f"http://127.0.0.1:{server.getsockname()[1]}/s")
        run_of_two = pool.submit(run, Plan(Hold(2, seconds=0.5), target, settle=0.0), watch)
        with server.accept()[0] as stays:
            with server.accept()[0] as leaves:
                for stream, answer in ((stays, head), (leaves, head + away)):
                    stream.recv(4096)
                    stream.sendall(answer)
                assert counted.wait(30)
            result = run_of_two.result(30)
    assert [(problem.kind, problem.count) for problem in result.problems] == [("at_limit", 1)]
    assert result.figures["connections"] == 1


@pytest.mark.parametrize("width", [None, 80])
def test_figures_are_never_cut_neither_in_a_pipe_nor_on_a_narrow_terminal(width: int | None) -> None:
    large = dict.fromkeys(("connections", "deliveries", "user_memory_per_connection", "deliveries_per_second"), 1e12)
    timing = Timing(1, 1.0, *[123_456_000] * 5)
    result = Result("hold", "", datetime.now(UTC), {}, figures=large, timings={"last": timing})
    out = io.StringIO()
    with redirect_stdout(out):
        show(results_console() if width is None else Console(width=width), result)
    text = out.getvalue()
    assert "\u2026" not in text
    assert text.count("1,000,000,000,000") == 4
    assert text.count("123,456.00") == 5


async def test_what_a_server_says_reaches_the_terminal_as_text_and_not_as_orders() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 500 \x1b[2Jcleared\x07\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1")
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/stream"
    done = await asyncio.to_thread(bench, "hold", "-n", "1", "--seconds", "0", "--settle", "0", url)
    server.close()
    assert r"500 \x1b[2Jcleared\x07" in done.output
    assert not {"\x1b", "\x07"} & set(done.output)


def test_a_run_over_channels_is_called_that(tmp_path: Path) -> None:
    made, page = tmp_path / "result.json", tmp_path / "result.html"
    files = ["--json", str(made), "--html", str(page)]
    done = bench("channels", "-m", "3", "-k", "2", "--seconds", "0.2", "--warm-up", "0", *files)
    assert done.exit_code == 0, done.output
    assert done.output.startswith("channels")
    assert orjson.loads(made.read_bytes())["mode"] == Channels.name == "channels"
    assert "broadcast" not in page.read_text()


# ---- the board -------------------------------------------------------------------------------------------------------


def test_the_shared_board_is_touched_through_its_own_atomics_only() -> None:
    """What one process writes and another reads is no plain store; so nobody but the board has its addresses."""
    sources = Path(__file__).parent.parent / "src_ext"
    plain = re.compile(r"\.(counters|faults|histograms)\[|\b_(published|target|streaming|closed_loop|done|doubts)\[")
    for path in sources.glob("*.pyx"):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if plain.search(line) and not (path.name == "board.pyx" and "&" in line):
                assert path.name == "board.pyx", f"{path.name}:{number}: {line.strip()}"
                assert re.search(r"block\.faults\[<int>fault\] == 0", line), f"{path.name}:{number}: {line.strip()}"
