"""Writes the blocking half of the SDK, `_sync`, and its tests from the asynchronous one, `_async`.

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
HALVES = [(HERE / half / "_async", HERE / half / "_sync") for half in (Path("src", "hothouse"), Path("tests"))]
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
    (r"\b_async\b", "_sync"),
    (r"\bAsync(LosingAnswers|Answering|Breaking|Cutting|Client|Sandbox|Exec|Shell|Context|Files)\b", r"\1"),
    (r"\bAsync(Group|Groups|Images|Pool|Pools|Snapshots|Templates)\b", r"\1"),
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


def formatted(text: str, path: Path) -> str:
    """The text as the project's formatter leaves it; lines got shorter."""
    for command in (["check", "--fix-only", "--select", "I", "--quiet"], ["format"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--stdin-filename", str(path), "-"],
            input=text,
            capture_output=True,
            text=True,
            check=True,
            cwd=HERE,
        )
        text = done.stdout
    return text


def wanted(source: Path, target: Path) -> dict[Path, str]:
    """The files that have to be in `target`, and what is in them."""
    files = [path for path in sorted(source.glob("*.py")) if path.name not in BY_HAND]
    return {target / path.name: formatted(blocking(path.read_text("utf-8")), target / path.name) for path in files}


def main(arguments: list[str]) -> int:
    """Writes or checks all files."""
    wrong = []
    for source, target in HALVES:
        files = wanted(source, target)
        wrong += [path for path, text in files.items() if not path.exists() or path.read_text("utf-8") != text]
        extra = [path for path in target.glob("*.py") if path not in files and path.name not in BY_HAND]
        wrong += extra
        if arguments != ["--check"]:
            for path, text in files.items():
                path.write_text(text, "utf-8")
            for path in extra:
                path.unlink()
    if arguments == ["--check"] and wrong:
        print(f"not what generate_sync.py writes: {', '.join(map(str, wrong))}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
