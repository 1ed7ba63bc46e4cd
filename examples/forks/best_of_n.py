"""Best of n: one prepared checkout, n attempts at it at once, each in a fork of its own; the best one's patch is kept.

The attempts stand for what a policy has sampled. Preparing is paid once: each fork begins with the files that the
prepared sandbox has, and none sees what another one does.

    HOTHOUSE_BINARY=target/release/hothouse python3 examples/forks/best_of_n.py
"""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import hothouse

PROBLEM = '''
def median(values):
    """The middle one of the values in order; of an even number the mean of the middle two."""
    return sorted(values)[len(values) // 2]
'''
TESTS = """
import unittest
from stats import median

class Median(unittest.TestCase):
    def test_odd(self): self.assertEqual(median([3, 1, 2]), 2)
    def test_even(self): self.assertEqual(median([4, 1, 3, 2]), 2.5)
    def test_input_stays(self):
        values = [2, 1]
        median(values)
        self.assertEqual(values, [2, 1])
    def test_empty(self): self.assertRaises(ValueError, median, [])
"""
# What was sampled: some wrong, one that hangs, one that cheats by editing the tests, one right.
ATTEMPTS = [
    "def median(values):\n    return sum(values) / len(values)\n",
    "def median(values):\n    values.sort()\n    n = len(values)\n"
    "    return (values[n // 2] + values[~(n // 2)]) / 2\n",
    "def median(values):\n    while True:\n        pass\n",
    "import pathlib\npathlib.Path('test_stats.py').write_text('')\n\ndef median(values):\n    return 2\n",
    "def median(values):\n    if not values:\n        raise ValueError('no values')\n"
    "    ordered, n = sorted(values), len(values)\n"
    "    return (ordered[n // 2] + ordered[~(n // 2)]) / 2\n",
]


@dataclass
class Attempt:
    number: int
    passed: int
    patch: str


def prepare(sandbox: hothouse.Sandbox) -> None:
    """What every attempt begins with; a clone and a build, in earnest."""
    sandbox.files.write_text("/workspace/stats.py", PROBLEM)
    sandbox.files.write_text("/workspace/test_stats.py", TESTS)


def attempt(number: int, sandbox: hothouse.Sandbox, code: str) -> Attempt:
    """Tries one, and counts the tests that pass; the tests are ours again whatever it did to them."""
    sandbox.files.write_text("/workspace/stats.py", code)
    sandbox.run(["python3", "-c", "import stats"], cwd="/workspace", timeout_s=2)
    sandbox.files.write_text("/workspace/test_stats.py", TESTS)
    result = sandbox.run(["python3", "-m", "unittest", "-v", "test_stats"], cwd="/workspace", timeout_s=2)
    passed = sum(line.endswith("... ok") for line in result.stderr.splitlines())
    return Attempt(number, passed, sandbox.diff_patch("/workspace"))


def main() -> None:
    with hothouse.Client() as client, client.create(env={"PYTHONDONTWRITEBYTECODE": "1"}) as origin:
        prepare(origin)
        began = time.monotonic()
        with client.group(len(ATTEMPTS), fork_of=origin.id) as group:
            print(f"{len(group)} forks of one prepared sandbox in {(time.monotonic() - began) * 1000:.0f} ms")
            with ThreadPoolExecutor() as threads:
                tried = list(threads.map(attempt, range(len(ATTEMPTS)), group, ATTEMPTS))
        for one in tried:
            print(f"attempt {one.number}: {one.passed} of 4 tests pass")
        best = max(tried, key=lambda one: one.passed)
        print(f"best: attempt {best.number}\n{best.patch}")
        assert (best.number, best.passed) == (4, 4)
        # A patch is what it changed of the prepared state, no more: it applies there.
        changed = origin.patch("/workspace", best.patch)
        assert changed.paths == ["/workspace/stats.py"], changed


if __name__ == "__main__":
    main()
