"""A tree search over interpreter state: every node is a live Python that has done what its path says.

The puzzle stands for anything that is expensive to redo: a board, a simulator, a half-finished analysis. A branch costs
a fork of a few milliseconds, whatever it took to get there; nothing is pickled, nothing is run again.

    HOTHOUSE_BINARY=target/release/hothouse python3 examples/contexts/tree_search.py
"""

import time

import hothouse

# The state lives in the sandbox: three jugs, and how much is in each.
SETUP = """
import time
time.sleep(0.3)  # what must not be paid again for each branch
SIZES = (8, 5, 3)
jugs = [8, 0, 0]

def pour(a, b):
    amount = min(jugs[a], SIZES[b] - jugs[b])
    jugs[a] -= amount
    jugs[b] += amount
    return amount > 0, tuple(jugs)
"""
GOAL = (4, 4, 0)
MOVES = [(a, b) for a in range(3) for b in range(3) if a != b]


def search(root: hothouse.Context) -> list[tuple[int, int]]:
    """Breadth first. Each open node keeps a context, closed once its children are forked."""
    level = [(root, [])]
    seen = {(8, 0, 0)}
    while level:
        below = []
        for node, path in level:
            branches = node.forks(len(MOVES))
            for branch, move in zip(branches, MOVES):
                moved, state = branch.eval(f"pour{move}")
                state = tuple(state)
                if state == GOAL:
                    return path + [move]
                if moved and state not in seen:
                    seen.add(state)
                    below.append((branch, path + [move]))
                else:
                    branch.close()
            node.close()
        level = below
    raise SystemExit("there is no way")


def main() -> None:
    with hothouse.Sandbox.create() as sandbox:
        root = sandbox.python(imports=["time"])
        root.run(SETUP, check=True)
        began = time.monotonic()
        path = search(root)
        took = time.monotonic() - began
        print(f"{GOAL} after {len(path)} moves, found in {took:.2f} s:", " ".join(f"{a}>{b}" for a, b in path))
        assert len(path) == 7


if __name__ == "__main__":
    main()
