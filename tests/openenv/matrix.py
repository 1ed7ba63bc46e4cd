"""Starts the servers, runs every client against them, and prints a JSON line for each check.

    python matrix.py VENVS [--targets] [--recordings DIRECTORY]

`HOTHOUSE_BINARY` names the program; `OPENENV_REFERENCE` is set instead where the reference is to be proven. VENVS is the
folder of virtual environments.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from server import Served, Unavailable

HERE = Path(__file__).resolve().parent
GENERATIONS = ["seed", "0.2", "0.3", "0.10"]
PATIENCE_S = 300
"""The longest that one generation's clients may take, all together."""

SERVERS: dict[str, dict[str, object]] = {
    "echo seed": {"name": "echo", "era": "seed", "http_session": "shared"},
    "echo shared": {"name": "echo", "http_session": "shared"},
    "echo": {"name": "echo"},
    "echo 2": {"name": "echo", "capacity": 2},
    "echo_mcp": {"name": "echo_mcp"},
    "echo_mcp 2": {"name": "echo_mcp", "capacity": 2},
    "coding": {"name": "coding"},
    "grid_world": {"name": "grid_world"},
    "connect4": {"name": "connect4"},
    # Recordings count from a server's start, and fill it.
    "recorded echo seed": {"name": "echo", "era": "seed", "http_session": "shared"},
    "recorded coding seed": {"name": "coding", "era": "seed", "http_session": "shared"},
    "recorded echo_mcp 8": {"name": "echo_mcp", "capacity": 8},
}

MOUNTED = {"mounted echo": "echo", "mounted echo_mcp": "echo_mcp"}
"""Environments of the whole service, by the name of the server that clients ask for."""


def targets(venvs: Path) -> dict[str, dict[str, object]]:
    """Environments that nobody here wrote, or of types that no built-in one has: these run as Python."""
    python = venvs / "0.10"
    if "OPENENV_REFERENCE" in os.environ:
        return {"trouble": {"name": "trouble"}}
    return {
        "trouble": {"name": "trouble:app", "python": python},
        "template": {"name": str(python / "template" / "echo"), "python": python},
    }


def say(client: str, transport: str, check: str, error: str | None) -> None:
    """A check of the matrix's own."""
    line = {"client": client, "transport": transport, "check": check, "ok": error is None, "error": error}
    print(json.dumps(line), flush=True)


def start(server: Callable[[], Served]) -> Served | Unavailable | Exception:
    """A server, or why there is none."""
    try:
        return server()
    except Exception as error:  # noqa: BLE001 - told as a check that failed
        return error


def run(generation: str, command: list[str | Path], urls: dict[str, str]) -> None:
    """All clients of one generation; their lines go to our own output."""
    try:
        ended = subprocess.run(
            command, input=json.dumps(urls).encode(), stderr=subprocess.PIPE, timeout=PATIENCE_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        said = (error.stderr or b"").decode(errors="replace")[-1500:]
        say(f"{generation}", "-", "runs to its end", f"not after {PATIENCE_S} s: {said}")
        return
    if ended.returncode != 0:
        said = ended.stderr.decode(errors="replace")[-1500:]
        say(f"{generation}", "-", "runs to its end", f"exit status {ended.returncode}: {said}")


def all_of_them(venvs: Path, also_targets: bool) -> dict[str, Served | Unavailable | Exception]:
    """Every server, or why it is not there."""
    wanted = SERVERS | (targets(venvs) if also_targets else {})
    # No more at once than there are cores: the reference takes seconds of one to start.
    with ThreadPoolExecutor(os.cpu_count()) as executor:
        started = executor.map(lambda one: start(lambda: Served(**one)), wanted.values())
        service = executor.submit(start, Served.mounted)
        return dict(zip(wanted, started)) | {"the service": service.result()}


def main() -> None:
    """The whole matrix."""
    parser = argparse.ArgumentParser()
    parser.add_argument("venvs", type=Path)
    parser.add_argument("--targets", action="store_true", help="also environments that run as Python")
    parser.add_argument("--recordings", type=Path, help="their directory")
    arguments = parser.parse_args()
    venvs, recordings = arguments.venvs, [arguments.recordings] if arguments.recordings else []
    started = all_of_them(venvs, arguments.targets)
    try:
        for name, served in started.items():
            if isinstance(served, Unavailable):
                print(f"not in this server: {name}: {served}", file=sys.stderr)
            elif isinstance(served, Exception):
                say("server", "-", f"starts: {name}", f"{type(served).__name__}: {served}")
        urls = {name: served.url for name, served in started.items() if isinstance(served, Served)}
        if service := urls.pop("the service", None):
            urls |= {name: f"{service}/openenv/{environment}" for name, environment in MOUNTED.items()}
        for generation in GENERATIONS:
            run(generation, [venvs / generation / "bin" / "python", HERE / "program.py", generation], urls)
        run("recordings", [venvs / "0.10" / "bin" / "python", HERE / "recordings.py", *recordings], urls)
        for name, served in started.items():
            if isinstance(served, Served):
                status = served.process.poll()
                error = None if status is None else f"ended with {status}: {served.errors()}"
                say("server", "-", f"lives to the end: {name}", error)
    finally:
        for served in started.values():
            if isinstance(served, Served):
                served.stop()


if __name__ == "__main__":
    main()
