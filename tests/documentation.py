"""README.md and the pages of docs/, and their examples, to be run as they stand there."""

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
FILES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
PAGES = {str(path.relative_to(ROOT)): path.read_text() for path in FILES}
TEXT = "\n".join(PAGES.values())
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


def run(words: str, **names: Any) -> dict[str, Any]:
    """Run the one block that contains these words; the names it has then, those given here included."""
    (block,) = {block for block in BLOCKS if words in block}
    exec(compile(block, "documentation", "exec"), names)
    return names
