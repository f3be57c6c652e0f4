from typing import Any

def encode(
    data: Any = ...,  # left out: no data; None: JSON null
    *,
    event: str | None = None,
    id: str | None = None,
    retry: int | None = None,
    comment: str | None = None,
) -> bytes: ...
def as_dict(value: object) -> object: ...
