"""Starts the servers, runs every client against them, and prints a JSON line for each check.

`HOTHOUSE_BINARY` names the program; `OPENENV_REFERENCE` is set instead where the reference is to be proven. The folder of
virtual environments is the argument.
"""

from __future__ import annotations

import json
import subprocess
import sys
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
    "mounted echo": {"name": "echo", "mounted": True},
    "mounted echo_mcp": {"name": "echo_mcp", "mounted": True},
    # Recordings count from a server's start, and fill it.
    "recorded echo seed": {"name": "echo", "era": "seed", "http_session": "shared"},
    "recorded coding seed": {"name": "coding", "era": "seed", "http_session": "shared"},
    "recorded echo_mcp 8": {"name": "echo_mcp", "capacity": 8},
}


def say(client: str, transport: str, check: str, error: str | None) -> None:
    """A check of the matrix's own."""
    line = {"client": client, "transport": transport, "check": check, "ok": error is None, "error": error}
    print(json.dumps(line), flush=True)


def start(wanted: dict[str, object]) -> Served | Unavailable | Exception:
    """A server, or why there is none."""
    try:
        return Served(**wanted)  # type: ignore[arg-type]
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


def main() -> None:
    """The whole matrix."""
    venvs, *recordings = map(Path, sys.argv[1:])
    with ThreadPoolExecutor() as executor:
        started = dict(zip(SERVERS, executor.map(start, SERVERS.values())))
    try:
        for name, served in started.items():
            if isinstance(served, Unavailable):
                print(f"not in this server: {name}: {served}", file=sys.stderr)
            elif isinstance(served, Exception):
                say("server", "-", f"starts: {name}", f"{type(served).__name__}: {served}")
        urls = {name: served.url for name, served in started.items() if isinstance(served, Served)}
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
