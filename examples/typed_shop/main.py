"""Comments on the items of a shop: typed events, from the database to every tab of every browser.

    cd examples/typed_shop
    sse-fast serve --app main:app --schema main

Open http://localhost:8000/items/7 in as many tabs as you like: they share one stream. Comment in one of them, or so;
what is no event of an item's channel is refused, whoever sends it:

    curl -d '{"author": "ada", "text": "fine"}' -H 'content-type: application/json' localhost:8000/items/7/comments
    curl -d '{"id": "1"}' 'localhost:8000/edge/publish/item/7?event=CommentRemoved'
"""

import os
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException
from fastapi.responses import FileResponse
from pydantic import BaseModel, Field

from sse_fast import Hub, stream


class NewComment(BaseModel):
    author: str = Field(min_length=1, max_length=40)
    text: str = Field(min_length=1, max_length=500)


class CommentAdded(NewComment):
    id: int


class CommentRemoved(BaseModel):
    id: int


Comments = stream("item:{item_id}", CommentAdded, CommentRemoved, item_id=int)
hub = Hub()  # of `sse-fast serve` its own: all workers share it
TABLE = "CREATE TABLE IF NOT EXISTS comments (id INTEGER PRIMARY KEY, item INTEGER, author TEXT, text TEXT)"


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with hub:
        yield


def database() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(os.environ.get("SHOP_DATABASE", "shop.db"), check_same_thread=False)) as shop:
        shop.execute(TABLE)
        shop.row_factory = sqlite3.Row
        yield shop


Database = Annotated[sqlite3.Connection, Depends(database)]
app = FastAPI(lifespan=lifespan)


@app.post("/items/{item}/comments", status_code=201)
def add(item: int, comment: NewComment, shop: Database) -> CommentAdded:
    with shop:  # it is committed, and published then
        values = (item, comment.author, comment.text)
        row = shop.execute("INSERT INTO comments (item, author, text) VALUES (?, ?, ?)", values).lastrowid
    added = CommentAdded(id=row, **comment.model_dump())
    hub.publish_threadsafe(Comments(item_id=item), added).result()
    return added


@app.delete("/items/{item}/comments/{id}", status_code=204)
def remove(item: int, id: int, shop: Database) -> None:
    with shop:
        if not shop.execute("DELETE FROM comments WHERE item = ? AND id = ?", (item, id)).rowcount:
            raise HTTPException(404, "there is no such comment")
    hub.publish_threadsafe(Comments(item_id=item), CommentRemoved(id=id)).result()


@app.get("/items/{item}/comments")
def comments(item: int, shop: Database) -> list[CommentAdded]:
    found = shop.execute("SELECT id, author, text FROM comments WHERE item = ? ORDER BY id", (item,))
    return [CommentAdded(**row) for row in found]


@app.get("/items/{item}")
def page(item: int) -> FileResponse:
    return FileResponse(Path(__file__).parent / "index.html")
