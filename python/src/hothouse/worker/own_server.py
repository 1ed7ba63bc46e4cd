"""`python -m hothouse.worker.own_server MODULE:NAME PATH`: a package's own ASGI server, by uvicorn."""

from __future__ import annotations

import sys
from typing import Any

from ..env.target import imported

LARGEST_MESSAGE_BYTES = 64 << 20


def application(name: str) -> Any:
    """What `MODULE:NAME` means in the directory of a package."""
    module, _, attribute = name.partition(":")
    found: Any = imported(module)
    for part in attribute.split("."):
        found = getattr(found, part)
    return found


def main() -> None:
    """Serves until it is told to end."""
    import uvicorn

    [_, name, path] = sys.argv
    served = application(name)
    # Who is connected is known: a session that nobody steps for a while is none that is gone.
    uvicorn.run(served, uds=path, ws_max_size=LARGEST_MESSAGE_BYTES, ws_ping_interval=None, ws_ping_timeout=None)


if __name__ == "__main__":
    main()
