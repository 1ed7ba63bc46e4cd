"""`python -m hothouse.worker TARGET --socket PATH`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from .zygote import Zygote, listening, quieted


def main() -> int:
    """Serves TARGET at PATH until it is told to end."""
    parser = argparse.ArgumentParser(
        prog="python -m hothouse.worker",
        description="Serve an environment over a Unix socket, to the program hothouse.",
    )
    parser.add_argument(
        "target",
        metavar="TARGET",
        help="package.module:Name, gym:ID, pettingzoo:family/name_vN, or a directory with openenv.yaml",
    )
    parser.add_argument("--socket", required=True, metavar="PATH", help="where to listen")
    parser.add_argument("--until-stdin-ends", action="store_true", help="end when standard input does")
    arguments = parser.parse_args()
    quieted()
    listener = listening(arguments.socket)
    try:
        Zygote(arguments.target).serve(listener, arguments.until_stdin_ends)
    finally:
        Path(arguments.socket).unlink(missing_ok=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
