"""Prints the matrix of clients and transports from the JSON lines of its checks; fails when one of them failed."""

from __future__ import annotations

import json
import sys
from collections import defaultdict


def main() -> int:
    """The table, the failures, and a line that `tests/run` counts."""
    counts: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
    failures = []
    for line in sys.stdin:
        check = json.loads(line)
        cell = counts[check["client"], check["transport"]]
        cell[0 if check["ok"] else 1] += 1
        if not check["ok"]:
            failures.append(check)
    width = max((len(client) for client, _ in counts), default=6)
    print(f"{'client':{width}}  {'transport':20}  passed  failed")
    for (client, transport), (passed, failed) in counts.items():
        print(f"{client:{width}}  {transport:20}  {passed:6}  {failed or '-':>6}")
    for check in failures:
        print(f"FAILED {check['client']} ({check['transport']}): {check['check']}: {check['error']}")
    passed = sum(cell[0] for cell in counts.values())
    verdict = "FAILED" if failures or not passed else "ok"
    print(f"test result: {verdict}. {passed} passed; {len(failures)} failed")
    return 0 if verdict == "ok" else 1


if __name__ == "__main__":
    sys.exit(main())
