"""Writes the blocking half of the SDK, `src/hothouse/_sync`, from the asynchronous one.

    python generate_sync.py            write it
    python generate_sync.py --check    fail when it is not what would be written

The asynchronous half is the one that people edit. A file that stands in `BY_HAND` is written by hand in both.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
SOURCE = HERE / "src" / "hothouse" / "_async"
TARGET = HERE / "src" / "hothouse" / "_sync"
BY_HAND = {"__init__.py", "seam.py"}
HEADER = "# Generated from ../_async by generate_sync.py: edit that, then run it.\n"

# In this order. Whole words each, so that no name that merely contains one is changed.
RULES = [
    (r"\basync (def|with|for)\b", r"\1"),
    (r"\bawait ", ""),
    (r"\b__a(enter|exit|iter|next)__\b", r"__\1__"),
    (r"\basynccontextmanager\b", "contextmanager"),
    (r"\bAsyncIterator\b", "Iterator"),
    (r"\bhandle_async_request\b", "handle_request"),
    (r"\ba(read|close)\b", r"\1"),
    (r"\bAsync(Client|Sandbox|Exec|Shell|Files|Pool|Pools|Templates)\b", r"\1"),
]


def blocking(text: str) -> str:
    """The blocking form of a file's text."""
    for pattern, replacement in RULES:
        text = re.sub(pattern, replacement, text)
    # A name that both halves had is imported twice now.
    text = re.sub(r"^from collections\.abc import (.*)$", _once, text, flags=re.MULTILINE)
    return HEADER + text


def _once(found: re.Match[str]) -> str:
    return "from collections.abc import " + ", ".join(sorted({name.strip() for name in found[1].split(",")}))


def formatted(text: str, name: str) -> str:
    """The text as the project's formatter leaves it; lines got shorter."""
    for command in (["check", "--fix-only", "--select", "I", "--quiet"], ["format"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--stdin-filename", str(TARGET / name), "-"],
            input=text,
            capture_output=True,
            text=True,
            check=True,
            cwd=HERE,
        )
        text = done.stdout
    return text


def main(arguments: list[str]) -> int:
    """Writes or checks all files."""
    wrong = []
    sources = {path.name: path for path in sorted(SOURCE.glob("*.py")) if path.name not in BY_HAND}
    for name, path in sources.items():
        wanted = formatted(blocking(path.read_text("utf-8")), name)
        there = TARGET / name
        if not there.exists() or there.read_text("utf-8") != wanted:
            wrong.append(name)
            if arguments != ["--check"]:
                there.write_text(wanted, "utf-8")
    for there in sorted(TARGET.glob("*.py")):
        if there.name not in sources and there.name not in BY_HAND:
            wrong.append(there.name)
            if arguments != ["--check"]:
                there.unlink()
    if arguments == ["--check"] and wrong:
        print(f"not what generate_sync.py writes: {', '.join(wrong)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
