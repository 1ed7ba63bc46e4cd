"""The examples beside the SDK run as they stand there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"


def output(*names: str) -> str:
    command = [sys.executable, "-W", "error", str(EXAMPLES.joinpath(*names))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def test_a_tree_of_interpreter_states_is_searched() -> None:
    assert "after 7 moves" in output("contexts", "tree_search.py")


def test_the_best_of_some_attempts_is_found() -> None:
    assert "best: attempt 4" in output("forks", "best_of_n.py")
