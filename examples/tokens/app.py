"""Tokens: the app knows its users and signs each a token; the edge beside it knows none, and lets them listen to what
their token says. A page renews its token before it ends, and its stream goes on where it was.

Users are ada, alan and grace; the password of each is the name backwards. The edge is mounted here, at /edge; it may as
well be a server of its own, `sse-fast serve`, with the same SSE_FAST_TOKEN_SECRET.

    uvicorn --app-dir examples/tokens app:app
    granian --interface asgi --working-dir examples/tokens app:app
"""

import os
import secrets
import time
from pathlib import Path
from typing import Annotated

import jwt
from fastapi import Cookie, Depends, FastAPI, HTTPException, Response
from fastapi.responses import FileResponse
from pydantic import BaseModel, Field

from sse_fast import Settings, create_app

PASSWORDS = {"ada": "ada", "alan": "nala", "grace": "ecarg"}
SECRET = os.environ.get("SSE_FAST_TOKEN_SECRET") or secrets.token_urlsafe(32)
SECONDS = 300  # that a token is good for: so long a user who was locked out listens on at most

sessions: dict[str, str] = {}  # session -> user
edge = create_app(Settings(token_secret=SECRET, token_cookie="token"))
app = FastAPI()
app.mount("/edge", edge)


class Login(BaseModel):
    user: str
    password: str


class Order(BaseModel):
    text: str = Field(min_length=1, max_length=500)


def logged_in(session: Annotated[str, Cookie()] = "") -> str:
    """The user."""
    if session not in sessions:
        raise HTTPException(401, "log in first")
    return sessions[session]


User = Annotated[str, Depends(logged_in)]


def token_of(user: str) -> str:
    """What this user may: to listen to what is theirs."""
    claims = {"sub": user, "exp": int(time.time()) + SECONDS, "sse": {"subscribe": [f"user:{user}:**"]}}
    return jwt.encode(claims, SECRET, "HS256")


def hand_out(response: Response, user: str) -> None:
    """An EventSource sends no header but cookies. Behind HTTPS add secure=True, and the prefix __Host- to the name."""
    response.set_cookie("token", token_of(user), max_age=SECONDS, httponly=True, samesite="strict")


@app.post("/login")
async def login(given: Login, response: Response) -> dict[str, str]:
    if not secrets.compare_digest(PASSWORDS.get(given.user, "").encode() or b"\0", given.password.encode()):
        raise HTTPException(403, "no such user, or not the password")
    session = secrets.token_urlsafe()
    sessions[session] = given.user
    response.set_cookie("session", session, httponly=True, samesite="strict")
    hand_out(response, given.user)
    return {"user": given.user}


@app.post("/token")
async def renew(user: User, response: Response) -> dict[str, str]:
    """A fresh token, for whoever is still logged in."""
    hand_out(response, user)
    return {"user": user}


@app.post("/logout")
async def logout(response: Response, session: Annotated[str, Cookie()] = "") -> dict[str, bool]:
    sessions.pop(session, None)
    response.delete_cookie("session")
    response.delete_cookie("token")
    return {"out": True}


@app.post("/orders")
async def order(given: Order, user: User) -> dict[str, str]:
    return {"id": str(await edge.hub.publish(f"user:{user}:orders", {"text": given.text}, event="order"))}


@app.get("/")
async def page() -> FileResponse:
    return FileResponse(Path(__file__).with_name("index.html"))
