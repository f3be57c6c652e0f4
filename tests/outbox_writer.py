"""An application that writes events, for `chaos_outbox`, until it is killed."""

import random
import sys
import time

import psycopg

from sse_fast.outbox import add

CHANNELS = [f"room:{number}" for number in range(8)]


def write(dsn: str, name: str, seed: int) -> None:
    """The application: transactions one after another, for ever, over one connection, or another when that is gone."""
    choose = random.Random(seed)
    number = 0
    while True:
        try:
            with psycopg.connect(dsn, connect_timeout=5) as connection:
                while True:
                    number += 1
                    chosen = choose.sample(CHANNELS, choose.randint(1, 3))
                    for channel in chosen:
                        for part in range(choose.choice((1, 1, 1, 4))):
                            add(connection, channel, f"{name}/{number}/{part}" + choose.choice(("", 50 * " é")))
                    if choose.random() < 0.2:
                        connection.rollback()
                        continue
                    for channel in chosen:
                        connection.execute("INSERT INTO committed VALUES (%s, %s)", (channel, f"{name}/{number}"))
                    connection.commit()
                    time.sleep(choose.uniform(0, 0.02))
        except psycopg.OperationalError:
            time.sleep(0.05)


if __name__ == "__main__":
    write(sys.argv[1], sys.argv[2], int(sys.argv[3]))
