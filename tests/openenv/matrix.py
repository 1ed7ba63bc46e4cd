"""Starts the servers, runs every client against them, and prints a JSON line for each check.

    python matrix.py VENVS [--recordings DIRECTORY]

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

from environments import Played, openenvs, own, templates
from server import Served, Site, Unavailable

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


ALSO_CLIENTS = ("trouble", "template")
"""Environments with servers of their own that the generations' clients play as well."""


def site(venvs: Path, played: Played) -> Site:
    """Where what it requires is installed."""
    return Site(venvs / "home" / played.home, HERE / "requirements" / "environments.txt", venvs / "wheels")


def all_played(venvs: Path) -> tuple[list[Played], dict[str, str]]:
    """Environments that have servers of their own; and why others are not here, by name."""
    if "OPENENV_REFERENCE" in os.environ:
        return [], {}
    theirs, missing = openenvs()
    return templates(venvs) + theirs + own(), missing


def targets(venvs: Path, played: list[Played]) -> dict[str, dict[str, object]]:
    """How those are served whom the generations' clients play."""
    if "OPENENV_REFERENCE" in os.environ:
        return {"trouble": {"name": "trouble"}}
    return {one.name: ours(venvs, one) for one in played if one.name in ALSO_CLIENTS}


def ours(venvs: Path, played: Played) -> dict[str, object]:
    """How our server serves it."""
    return {"name": str(played.directory), "site": site(venvs, played), "flags": played.flags()}


def both(venvs: Path, played: Played, running: Served | Unavailable | Exception | None) -> dict[str, Served]:
    """Our server of it, which may be there already, and plain uvicorn."""
    own = running if isinstance(running, Served) else Served(**ours(venvs, played))
    try:
        return {"ours": own, "plain": Served.plain(played.directory, played.app, site(venvs, played))}
    except BaseException:
        own.stop()
        raise


def compare(venvs: Path, played: list[Played], started: dict[str, Served | Unavailable | Exception]) -> None:
    """Plays all of them through our server and through plain uvicorn."""
    with ThreadPoolExecutor(os.cpu_count()) as executor:
        pairs = [executor.submit(both, venvs, one, started.get(one.name)) for one in played]
    lines: list[str] = []
    mine: dict[str, Served] = {}
    try:
        for one, pair in zip(played, pairs):
            try:
                servers = pair.result()
            except Exception as error:  # noqa: BLE001 - told as a check that failed
                say("server", "-", f"starts: {one.name}", f"{type(error).__name__}: {error}")
                continue
            mine |= {f"{one.name} {side}": served for side, served in servers.items() if served not in started.values()}
            lines.append(json.dumps(one.told() | {side: served.url for side, served in servers.items()}))
        run("unmodified", [venvs / "0.10" / "bin" / "python", HERE / "unmodified.py"], "\n".join(lines))
        alive(mine)
    finally:
        for served in mine.values():
            served.stop()


def alive(servers: dict[str, Served]) -> None:
    """A check for each, whether it lives to the end."""
    for name, served in servers.items():
        status = served.process.poll()
        error = None if status is None else f"ended with {status}: {served.errors()}"
        say("server", "-", f"lives to the end: {name}", error)


def line(client: str, transport: str, check: str, error: str | None) -> str:
    """A check of the matrix's own."""
    return json.dumps(
        {"client": client, "transport": transport, "check": check, "ok": error is None, "error": error}
    )


def say(client: str, transport: str, check: str, error: str | None) -> None:
    """Prints one."""
    print(line(client, transport, check, error), flush=True)


def start(server: Callable[[], Served]) -> Served | Unavailable | Exception:
    """A server, or why there is none."""
    try:
        return server()
    except Exception as error:  # noqa: BLE001 - told as a check that failed
        return error


def run(generation: str, command: list[str | Path], said: str) -> None:
    """All clients of one generation, which are told of servers; their lines go to our own output."""
    # What they import is compiled once, and not anew for each run.
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    try:
        ended = subprocess.run(
            command, input=said.encode(), stderr=subprocess.PIPE, timeout=PATIENCE_S, check=False, env=variables
        )
    except subprocess.TimeoutExpired as error:
        said = (error.stderr or b"").decode(errors="replace")[-1500:]
        say(f"{generation}", "-", "runs to its end", f"not after {PATIENCE_S} s: {said}")
        return
    if ended.returncode != 0:
        said = ended.stderr.decode(errors="replace")[-1500:]
        say(f"{generation}", "-", "runs to its end", f"exit status {ended.returncode}: {said}")


def all_of_them(venvs: Path, played: list[Played]) -> dict[str, Served | Unavailable | Exception]:
    """Every server, or why it is not there."""
    wanted = SERVERS | targets(venvs, played)
    # No more at once than there are cores: the reference takes seconds of one to start.
    with ThreadPoolExecutor(os.cpu_count()) as executor:
        started = executor.map(lambda one: start(lambda: Served(**one)), wanted.values())
        service = executor.submit(start, Served.mounted)
        return dict(zip(wanted, started)) | {"the service": service.result()}


def main() -> None:
    """The whole matrix."""
    parser = argparse.ArgumentParser()
    parser.add_argument("venvs", type=Path)
    parser.add_argument("--recordings", type=Path, help="their directory")
    arguments = parser.parse_args()
    venvs, recordings = arguments.venvs, [arguments.recordings] if arguments.recordings else []
    played, missing = all_played(venvs)
    started = all_of_them(venvs, played)
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
            run(generation, [venvs / generation / "bin" / "python", HERE / "program.py", generation], json.dumps(urls))
        run("recordings", [venvs / "0.10" / "bin" / "python", HERE / "recordings.py", *recordings], json.dumps(urls))
        compare(venvs, played, started)
        for name, why in missing.items():
            print(json.dumps({"client": name, "note": why}), flush=True)
        alive({name: served for name, served in started.items() if isinstance(served, Served)})
    finally:
        for served in started.values():
            if isinstance(served, Served):
                served.stop()


if __name__ == "__main__":
    main()
