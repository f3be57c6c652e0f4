"""A run on the terminal: a progress bar on stderr while it runs, the figures as a table on stdout when it is done."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from sse_fast.bench.figures import FIGURES, TIMED
from sse_fast.bench.results import Result, Timing
from sse_fast.bench.runner import Progress as Step
from sse_fast.bench.runner import Watch

FILE_WIDTH = 200
COUNTED_ANYWAY = ("lost", "lost_at_start", "duplicate", "out_of_order", "torn", "checksum")

WANTS_KEY = (
    "the server wants a key: an edge that is named by its address gets it by --key or SSE_FAST_PUBLISH_KEY, another "
    "server by --publish-header 'Authorization: Bearer KEY'"
)


@contextmanager
def progress_bar(console: Console) -> Iterator[Watch | None]:
    """Something to hand to `run` as its watcher; None where there is no terminal."""
    if not console.is_terminal:
        yield None
        return
    bar = Progress(
        SpinnerColumn(),
        TextColumn("[bold]{task.description:>14}"),
        BarColumn(),
        TextColumn("{task.fields[words]}"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )
    with bar:
        task = bar.add_task("start", total=1.0, words="")

        def watch(step: Step) -> None:
            bar.update(task, description=step.phase, completed=step.done, words=words(step))

        yield watch


def words(step: Step) -> str:
    """One line of what is going on."""
    counters, sample = step.counters, step.sample
    parts = [f"{counters['streaming'] + counters['slow_streams']:,} streams", f"{counters['deliveries']:,} deliveries"]
    if sample:
        parts.append(f"{sample['deliveries_per_second']:,.0f}/s")
        if sample["p99"] is not None:
            parts.append(f"p99 {milliseconds(sample['p99'])}")
        if sample["server_cores"] is not None:
            parts.append(f"server {sample['server_cores']:.2f} cores")
    return ", ".join(parts)


def results_console() -> Console:
    """Stdout; where it is no terminal, wide enough for every table, so that no figure is cut in a file."""
    console = Console()
    return console if console.is_terminal else Console(width=FILE_WIDTH)


def show(console: Console, result: Result) -> None:
    """The tables of a result."""
    title = f"{result.mode} {result.label}".strip()
    figures = Table(title=title, title_justify="left", show_header=False, title_style="bold")
    figures.add_column()  # words give way to figures
    figures.add_column(justify="right", no_wrap=True)
    for name, (text, form) in FIGURES.items():
        value = result.figures.get(name)
        if value is not None:
            figures.add_row(text, form.format(value))
    console.print(figures)
    if result.timings:
        timings = Table(title="times in ms", title_justify="left", title_style="bold")
        timings.add_column("")
        for name in ("p50", "p90", "p99", "p99.9", "max"):
            timings.add_column(name, justify="right", no_wrap=True)
        for name, text in TIMED.items():
            if name in result.timings:
                timings.add_row(text, *row(result.timings[name]))
        console.print(timings)
    found = {problem.kind: problem.count for problem in result.problems}
    console.print(", ".join(f"{name.replace('_', ' ')} {found.get(name, 0):,}" for name in COUNTED_ANYWAY))
    for problem in result.problems:
        # Bytes from outside: control characters are shown escaped.
        example = "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in problem.example)
        example = f": {example}" if example else ""
        console.print(f"WRONG: {problem.count:,} {problem.meaning}{example}", style="bold red", markup=False)
        if problem.kind == "publish_refused" and " 401" in problem.example:
            console.print(WANTS_KEY, style="bold red", markup=False)
    if result.figures.get("connects") == 0:
        console.print("no stream could be opened, so nothing was measured", style="bold red")


def row(timing: Timing) -> list[str]:
    values = (timing.p50, timing.p90, timing.p99, timing.p99_9, timing.max)
    return [f"{value / 1000:,.2f}" for value in values]


def milliseconds(microseconds: int) -> str:
    return f"{microseconds / 1000:,.1f} ms"
