"""A stream of one's own behind a login: the session's cookie comes with the stream, a foreign channel is 403, and
logging out ends the streams of that session.

Users are ada, alan and grace; the password of each is the name backwards.

    uvicorn --app-dir examples/inbox app:app
    granian --interface asgi --working-dir examples/inbox app:app
"""

import secrets
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

from fastapi import Cookie, Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import FileResponse
from pydantic import BaseModel, Field

from sse_fast import EndReason, Hub, StreamInfo

PASSWORDS = {"ada": "ada", "alan": "nala", "grace": "ecarg"}

hub = Hub()
sessions: dict[str, str] = {}  # session -> user
streams: defaultdict[str, dict[int, StreamInfo]] = defaultdict(dict)  # session -> its open streams


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with hub:
        yield


app = FastAPI(lifespan=lifespan)


class Login(BaseModel):
    user: str
    password: str


class Note(BaseModel):
    text: str = Field(min_length=1, max_length=500)


def logged_in(session: Annotated[str, Cookie()] = "") -> str:
    """The session, if it is one."""
    if session not in sessions:
        raise HTTPException(401, "log in first")
    return session


Session = Annotated[str, Depends(logged_in)]


@app.post("/login")
async def login(given: Login, response: Response) -> dict[str, str]:
    if (
        not secrets.compare_digest(PASSWORDS.get(given.user, "").encode(), given.password.encode())
        or not given.password
    ):
        raise HTTPException(403, "no such user, or not the password")
    session = secrets.token_urlsafe()
    sessions[session] = given.user
    # Behind HTTPS add secure=True.
    response.set_cookie("session", session, httponly=True, samesite="strict")
    return {"user": given.user}


@app.post("/logout")
async def logout(session: Session, response: Response) -> dict[str, str]:
    user = sessions.pop(session)
    response.delete_cookie("session")
    for stream in list(streams.pop(session, {}).values()):
        await stream.end()  # a browser that comes back is answered with 401, and gives up
    return {"user": user}


@app.get("/me")
async def me(session: Session) -> dict[str, object]:
    return {"user": sessions[session], "others": [user for user in PASSWORDS if user != sessions[session]]}


@app.get("/events/{user}")
async def events(user: str, session: Session, request: Request) -> Response:
    if user != sessions[session]:
        raise HTTPException(403, f"this stream is {user}'s, and you are {sessions[session]}")

    def joined(info: StreamInfo) -> None:
        streams[session][info.id] = info

    def left(info: StreamInfo, reason: EndReason) -> None:
        streams[session].pop(info.id, None)
        if not streams[session]:
            del streams[session]

    return hub.response(request, [f"user:{user}"], history=20, on_join=joined, on_leave=left)


@app.post("/notes/{user}")
async def send(user: str, note: Note, session: Session) -> dict[str, str]:
    if user not in PASSWORDS:
        raise HTTPException(404, f"there is no user {user}")
    return {"id": str(await hub.publish(f"user:{user}", {"from": sessions[session], "text": note.text}, event="note"))}


@app.get("/")
async def page() -> FileResponse:
    return FileResponse(Path(__file__).with_name("index.html"))
