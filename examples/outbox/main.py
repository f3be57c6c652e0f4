"""A shop that writes its events into its own database, in the transaction of what they tell; what is committed is
published, once, in order, whatever dies.

    pip install '.[outbox]' sqlalchemy fastapi uvicorn     # at the sources
    export SHOP_DATABASE=postgresql+psycopg:///shop
    createdb shop && sse-fast relay --outbox "$SHOP_DATABASE" --create
    uvicorn --app-dir examples/outbox main:app

    curl -N localhost:8000/orders/1/events
    curl -X POST localhost:8000/orders -H 'Content-Type: application/json' -d '{"article": "a lamp"}'

What runs in other processes writes into the same outbox: a Celery worker (jobs.py), and a line of cron, which needs no
Python at all:

    0 6 * * *  psql shop -c "INSERT INTO sse_fast_outbox (channel, event, data) VALUES ('shop', 'opens', 'morning')"
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Body, FastAPI, Request, Response
from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sse_fast import Hub
from sse_fast.outbox import OutboxRelay, add

DATABASE = os.environ.get("SHOP_DATABASE", "postgresql+psycopg:///shop")
engine = create_engine(DATABASE)
hub = Hub()


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"

    number: Mapped[int] = mapped_column(primary_key=True)
    article: Mapped[str]
    state: Mapped[str] = mapped_column(default="new")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    Base.metadata.create_all(engine)
    async with hub, OutboxRelay(hub, DATABASE):
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/orders")
def take(article: Annotated[str, Body(embed=True)]) -> dict[str, int]:
    with Session(engine) as session, session.begin():
        order = Order(article=article)
        session.add(order)
        session.flush()  # which gives it its number
        add(session, [f"order:{order.number}", "shop"], {"article": article}, event="taken")
        return {"number": order.number}


@app.get("/orders/{number}/events")
async def events(number: int, request: Request) -> Response:
    return hub.response(request, [f"order:{number}"], history=10)


@app.get("/events")
async def all_events(request: Request) -> Response:
    return hub.response(request, ["shop"], history=10)
