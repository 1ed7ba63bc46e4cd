"""Reads the lines of matrix.py and prints them as a table: a row for each client, a column for each transport.

A cell is how many checks passed, and how many failed if any did. A row may say instead why there is nothing to run. What
failed is told below the table, then a line of totals in
the words of cargo, which tests/run counts. Exit status 1 if anything failed, or if there was nothing.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from typing import Any


def printed(lines: list[dict[str, Any]], notes: list[dict[str, str]]) -> str:
    """The table."""
    cells: dict[tuple[str, str], list[bool]] = defaultdict(list)
    for line in lines:
        cells[line["client"], line["transport"]].append(line["ok"])
    # In the order of their first appearance, which is that of the generations.
    clients = list(dict.fromkeys(client for client, _ in cells))
    transports = list(dict.fromkeys(transport for _, transport in cells))

    def cell(client: str, transport: str) -> str:
        checks = cells.get((client, transport), [])
        failed = checks.count(False)
        if failed:
            return f"{checks.count(True)} ({failed} FAILED)"
        return str(len(checks)) if checks else "."

    rows = [["client", *transports], *([client, *(cell(client, one) for one in transports)] for client in clients)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    printed = [
        "  ".join([row[0].ljust(widths[0]), *(text.rjust(width) for text, width in zip(row[1:], widths[1:]))])
        for row in rows
    ]
    return "\n".join([*printed, *(f"{note['client'].ljust(widths[0])}  {note['note']}" for note in notes)])


def main() -> None:
    """The table, the failures, the totals."""
    lines, notes, noise = [], [], []
    for text in sys.stdin:
        try:
            line = json.loads(text)
            if "note" in line:
                notes.append(line)
                continue
            line["client"], line["transport"], line["check"], line["ok"]
        except (ValueError, TypeError, KeyError):
            noise.append(text.rstrip())
        else:
            lines.append(line)
    if lines:
        print(printed(lines, notes))
    for text in noise:
        print(f"not a check: {text}")
    failed = [line for line in lines if not line["ok"]]
    for line in failed:
        print(f"FAILED {line['client']} / {line['transport']} / {line['check']}: {line['error']}")
    if not lines:
        print("no check ran")
    verdict = "FAILED" if failed or not lines else "ok"
    print(f"test result: {verdict}. {len(lines) - len(failed)} passed; {len(failed)} failed")
    sys.exit(verdict != "ok")


if __name__ == "__main__":
    main()
