"""`python -m hothouse.worker.own_server MODULE:NAME PATH`: a package's own ASGI server, by uvicorn."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

BEYOND = "attempted relative import beyond top-level package"
"""What Python says of `from ..models` in a module that was imported as `server.app`."""
LARGEST_MESSAGE_BYTES = 64 << 20


def application(name: str, package: str) -> Any:
    """What `MODULE:NAME` means in the directory of a package.

    Some packages are written to be started in their directory, others as `PACKAGE.MODULE:NAME` beside it; their
    `openenv.yaml` says the same.
    """
    module, _, attribute = name.partition(":")
    try:
        found: Any = import_module(module)
    except ImportError as error:
        if BEYOND not in str(error):
            raise
        # What was imported on the way is there a second time otherwise, as another class.
        for imported in [known for known in sys.modules if known.split(".")[0] == module.split(".")[0]]:
            del sys.modules[imported]
        found = import_module(f"{package}.{module}")
    for part in attribute.split("."):
        found = getattr(found, part)
    return found


def main() -> None:
    """Serves until it is told to end."""
    import uvicorn

    [_, name, path] = sys.argv
    served = application(name, Path.cwd().name)
    # Who is connected is known: a session that nobody steps for a while is none that is gone.
    uvicorn.run(served, uds=path, ws_max_size=LARGEST_MESSAGE_BYTES, ws_ping_interval=None, ws_ping_timeout=None)


if __name__ == "__main__":
    main()
