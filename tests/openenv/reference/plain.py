"""Serves a directory with an `openenv.yaml` as its author would: uvicorn, beside it, with nothing of ours.

    python plain.py DIRECTORY MODULE:NAME
"""

from __future__ import annotations

import sys
from pathlib import Path

import uvicorn
from serve import Server, listener
from uvicorn.importer import import_from_string


def main() -> None:
    """Serves it, and says where."""
    [_, directory, name] = sys.argv
    path = Path(directory).resolve()
    # Some name their app from within the directory, others from beside it.
    sys.path[:0] = [str(path), str(path.parent)]
    served = import_from_string(name)
    with listener(0) as bound:
        Server(uvicorn.Config(served, log_level="warning")).run([bound])


if __name__ == "__main__":
    main()
