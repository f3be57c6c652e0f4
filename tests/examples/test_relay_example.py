"""The example of a relay: what a source says, shortened, in a channel of the app."""

import runpy
from pathlib import Path

import pytest
from scripted_source import said, scripted_source

from sse_fast.testing import EventClient

EXAMPLE = Path(__file__).parents[2] / "examples" / "relay" / "main.py"


async def test_edits_are_shown_shortened_and_a_gap_where_the_source_says_what_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with scripted_source() as source:
        monkeypatch.setenv("SOURCE", source.url)
        app = runpy.run_path(str(EXAMPLE))["app"]
        async with EventClient(app) as client, client.stream("/changes") as stream:
            await source.streamed(
                said('{"type": "edit", "title": "A", "user": "B", "comment": "long"}', "1"),
                said('{"type": "log"}', "2"),
                said("no JSON", "3"),
                said('{"type": "edit", "title": "C"}', "4"),
            )
            events = await stream.take(4)
            assert [(event.event, event.data) for event in events[1:]] == [
                ("edit", '{"title":"A","user":"B"}'),
                ("$gap", '{"after":null,"until":null}'),
                ("edit", '{"title":"C","user":null}'),
            ]
