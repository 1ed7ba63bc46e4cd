"""Runs all clients of one generation, inside of that generation's virtual environment.

    python program.py GENERATION < SERVERS

SERVERS is a JSON object: the name of each server in matrix.py, and its URL; a server that is not there is left out.
Each check is a JSON line on standard output. One process for all of them, since importing a client takes seconds.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

HERE = Path(__file__).resolve().parent
# `server`, for containers that are processes; the clients themselves; and what `openenv init echo` wrote.
sys.path[:0] = [str(HERE), str(HERE / "clients"), str(Path(sys.prefix, "template"))]

from checks import Report  # noqa: E402

Part = tuple[str, str, str, Callable[[Report, str], None]]
"""The client, the transport, the server that it needs, and what it does."""


def seed() -> Iterator[Part]:
    """openenv-core 0.1.1."""
    client = import_module("seed")
    provider = import_module("provider")
    models = import_module("echo.models")
    echo = import_module("echo.client").EchoEnv
    name = "0.1 EchoEnv"
    yield name, "http shared", "echo seed", client.shared
    yield name, "http shared, today", "echo shared", client.today
    yield name, "http", "echo", client.stateless

    def contained(report: Report, _: str) -> None:
        how = {"era": "seed", "http_session": "shared"}
        provider.run(
            report, lambda given: echo.from_docker_image("echo:latest", provider=given), models.EchoAction, **how
        )

    yield f"{name}.from_docker_image", "http shared", "echo seed", contained


def later(generation: str) -> Iterator[Part]:
    """Those that speak WebSocket."""
    typed, generic, games, coding, sessions, tools, provider, flavours, models = (
        import_module(name)
        for name in (
            "echo_typed", "generic", "games", "coding", "sessions", "tools", "provider", "flavours", "echo.models",
        )
    )  # fmt: skip
    for way, flavour in flavours.FLAVOURS[generation].items():
        name = f"{generation} {{}} {way}".format
        # The default argument binds the flavour of this round.
        parts: list[tuple[str, str, str, Callable[..., None]]] = [
            (name("EchoEnv"), "ws", "echo", typed.run),
            (name("EchoEnv"), "ws mounted", "mounted echo", typed.run),
            (name("GenericEnvClient"), "ws", "echo", generic.run),
            (name("GenericEnvClient"), "ws mounted", "mounted echo", generic.run),
            (name("EchoEnv"), "ws template", "template", typed.run),
            (name("GenericEnvClient"), "ws template", "template", generic.run),
            (name("GenericEnvClient"), "ws", "echo", sessions.apart),
            (name("GenericEnvClient"), "ws", "echo 2", sessions.capacity),
            (name("GridWorldEnv"), "ws", "grid_world", games.grid_world),
            (name("Connect4Env"), "ws", "connect4", games.connect4),
            (name("CodingEnv"), "ws", "coding", coding.run),
        ]
        # This one's own methods are coroutines even where those of its base block by themselves.
        if generation == "0.10" and way != "auto":
            parts += [
                (name("MCPToolClient"), "mcp + ws", "echo_mcp", tools.by_session),
                (name("MCPToolClient"), "mcp + ws mounted", "mounted echo_mcp", tools.by_session),
                (name("MCPToolClient"), "mcp + ws", "echo_mcp 2", tools.released),
            ]
        elif generation != "0.10":
            parts += [(name("MCPToolClient"), "ws", "echo_mcp", tools.by_steps)]
        for client, transport, served, part in parts:
            yield client, transport, served, lambda report, url, part=part, flavour=flavour: part(report, url, flavour)
    if generation != "0.2":
        yield f"{generation} GenericEnvClient gathered", "ws", "echo", sessions.together
    for way, start in starts(generation).items():

        def contained(report: Report, _: str, start: Callable[..., object] = start) -> None:
            provider.run(report, start, models.EchoAction)

        yield f"{generation} EchoEnv.from_docker_image {way}", "ws", "echo", contained


def starts(generation: str) -> dict[str, Callable[..., object]]:
    """The ways to start a container and its client."""
    echo = import_module("echo.client").EchoEnv
    flavours = import_module("flavours")

    def handle(given: object) -> object:
        return echo.from_docker_image("echo:latest", provider=given)

    def awaited(given: object) -> object:
        # Made and used on one event loop.
        client = flavours.Awaited(None)
        client.client = client.run(lambda: handle(given))
        return client

    if generation == "0.2":
        return {"blocking": handle}
    if generation == "0.3":
        return {"async": awaited}
    return {"async": awaited, "sync()": lambda given: handle(given).sync()}


def raw() -> Iterator[Part]:
    """No client at all, and the package's own validator."""
    stateless, frames, jsonrpc, validation = (
        import_module(name) for name in ("stateless", "frames", "jsonrpc", "validation")
    )
    yield "raw", "http", "echo", stateless.run
    yield "raw", "http mounted", "mounted echo", stateless.run
    yield "raw", "ws", "echo", frames.run
    yield "raw", "ws mounted", "mounted echo", frames.run
    yield "raw", "http template", "template", stateless.run
    yield "raw", "ws template", "template", frames.run
    yield "raw", "ws", "echo 2", frames.capacity
    yield "raw", "mcp", "echo_mcp", jsonrpc.over_http
    yield "raw", "ws mcp", "echo_mcp", jsonrpc.over_websocket
    yield "raw", "ws", "echo_mcp", jsonrpc.in_messages
    for served in ("echo", "echo_mcp", "coding", "grid_world", "connect4", "mounted echo"):
        yield f"0.10 openenv validate {served}", "http", served, validation.run


def parts(generation: str) -> Iterator[Part]:
    """All that a generation has."""
    if generation == "seed":
        yield from seed()
        return
    yield from later(generation)
    if generation == "0.10":
        yield from raw()


def main() -> None:
    """Runs what there are servers for."""
    [_, generation] = sys.argv
    servers = json.load(sys.stdin)
    for client, transport, served, part in parts(generation):
        if served not in servers:
            continue
        report = Report(client, transport)
        try:
            part(report, servers[served])
        except Exception:  # noqa: BLE001 - what breaks outside of a check fails its part, not the ones behind it
            with report.check("runs to its end"):
                raise


if __name__ == "__main__":
    main()
