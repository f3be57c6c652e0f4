"""The examples of README.md, to be run as they stand there."""

import re
from pathlib import Path
from typing import Any

README = (Path(__file__).parent.parent / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def run(words: str, **names: Any) -> dict[str, Any]:
    """Run the one block that contains these words; the names it has then, those given here included."""
    (block,) = [block for block in BLOCKS if words in block]
    exec(compile(block, "README.md", "exec"), names)
    return names
