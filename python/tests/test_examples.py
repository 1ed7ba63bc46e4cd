"""The examples beside the SDK run as they stand there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_a_tree_of_interpreter_states_is_searched() -> None:
    example = EXAMPLES / "contexts" / "tree_search.py"
    done = subprocess.run(
        [sys.executable, "-W", "error", str(example)], capture_output=True, text=True, timeout=50, check=False
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert "after 7 moves" in done.stdout
