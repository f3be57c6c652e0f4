"""Who is there in a channel, by HTTP: a route of Starlette's."""

from starlette.requests import Request
from starlette.responses import Response

from sse_fast.edge.answers import json, response_of
from sse_fast.errors import EngineUnavailable
from sse_fast.event_rules import WholeNumber, channel_name
from sse_fast.hub.presence import Presence
from sse_fast.protocol.native import parameters_of
from sse_fast.protocol.problem import AGAIN, problem

LISTED = WholeNumber("limit", 1000, least=1)


class WhoIsThere:
    """WhoIsThere(presence): None: presence is kept nowhere."""

    def __init__(self, presence: Presence | None) -> None:
        self._presence = presence

    async def answer(self, request: Request) -> Response:
        """`?limit=&after=`: how many users are there, over all workers and nodes, and some of them, in the order of
        their names. What `next` says, given as `?after=`, goes on from there."""
        options = parameters_of(request.scope["query_string"], request.url.path, "limit", "after")
        limit = LISTED.read(options.get("limit", "100"))
        channel = request.path_params["channel"]
        channel_name(channel)
        presence = self._presence
        if presence is None or not presence.is_kept(channel):
            return response_of(
                problem(404, f"the presence in channel {channel!r} is not kept; see --presence-channels")
            )
        try:
            count, members = await presence.who(channel, limit, options.get("after", ""))
        except EngineUnavailable:
            return response_of(problem(503, "who is there at other nodes is not known now: try again", AGAIN))
        users = [{"user": member.user, "since": member.since} for member in members]
        further = members[-1].user if len(members) == limit else None
        return json({"channel": channel, "count": count, "users": users, "next": further})
