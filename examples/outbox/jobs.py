"""A job of the shop, in a Celery worker: what it does and the event that tells it are one transaction, so a job that
dies half way has told nothing, and one that is tried again tells it once.

    pip install celery
    celery --workdir examples/outbox -A jobs worker
    python -c 'import jobs; jobs.ship.delay(1)'

The broker is whichever you have. This one needs no server: files in a directory. A job of RQ, or of anything else, is
the same function.
"""

import os
from pathlib import Path

from celery import Celery
from main import Order, engine
from sqlalchemy.orm import Session

from sse_fast.outbox import add

BROKER = Path(os.environ.get("SHOP_BROKER", "/tmp/shop-jobs"))
BROKER.mkdir(parents=True, exist_ok=True)
app = Celery("jobs", broker="filesystem://")
app.conf.broker_transport_options = {"data_folder_in": BROKER, "data_folder_out": BROKER, "control_folder": BROKER}


@app.task(acks_late=True)
def ship(number: int) -> None:
    with Session(engine) as session, session.begin():
        order = session.get(Order, number, with_for_update=True)
        if order is None or order.state == "shipped":  # a job may come twice
            return
        order.state = "shipped"
        add(session, [f"order:{number}", "shop"], {"number": number}, event="shipped")
