"""Serves an environment with the server of the package openenv, with the command line of `hothouse env serve`.

It proves the tests right: what they assert of us, the original has to do as well. The echo environments are the template
of `openenv init`, unchanged. The others are those of a checkout of the openenv repository that `OPENENV_SOURCE` names,
since no registry has them; without it they are unavailable (exit status 69).
"""

from __future__ import annotations

import argparse
import importlib
import os
import socket
import sys
from pathlib import Path
from typing import Any

import uvicorn

UNAVAILABLE = 69


def template() -> Path:
    """What `openenv init echo` of this Python's own openenv made; tests/openenv/run calls it."""
    return Path(sys.prefix, "template", "echo")


def seed_echo() -> Any:
    sys.path.insert(0, str(template()))
    return importlib.import_module("server.app").app


def echo(capacity: int) -> Any:
    sys.path.insert(0, str(template()))
    from openenv.core.env_server.http_server import create_app

    models = importlib.import_module("models")
    environment = importlib.import_module("server.echo_environment").EchoEnvironment
    # As the template's app, which has room for one session.
    return create_app(
        environment, models.EchoAction, models.EchoObservation, env_name="echo", max_concurrent_envs=capacity
    )


def echo_mcp(capacity: int) -> Any:
    from openenv.core.env_server.http_server import create_app
    from openenv.core.env_server.mcp_types import CallToolAction, CallToolObservation

    sys.path.insert(0, str(Path(__file__).parent))
    environment = importlib.import_module("echo_tools").EchoTools
    return create_app(
        environment, CallToolAction, CallToolObservation, env_name="echo_mcp", max_concurrent_envs=capacity
    )


UPSTREAM = {
    "grid_world": ("grid_world_env", "grid_world_environment:GridWorldEnvironment", "GridWorld"),
    "connect4": ("connect4_env", "connect4_environment:Connect4Environment", "Connect4"),
    "coding": ("coding_env", "python_codeact_env:PythonCodeActEnv", "Code"),
}


def upstream(name: str, capacity: int) -> Any:
    source = os.environ.get("OPENENV_SOURCE")
    if source is None:
        sys.stderr.write(f"{name} is in no package; OPENENV_SOURCE may name a checkout of the openenv repository\n")
        raise SystemExit(UNAVAILABLE)
    sys.path.insert(0, str(Path(source, "envs")))
    from openenv.core.env_server.http_server import create_app

    package, factory, prefix = UPSTREAM[name]
    module, _, cls = factory.partition(":")
    environment = getattr(importlib.import_module(f"{package}.server.{module}"), cls)
    models = importlib.import_module(f"{package}.models")
    # Most of them are declared safe for one session alone, and a server for more does not start.
    room = capacity if environment.SUPPORTS_CONCURRENT_SESSIONS else 1
    return create_app(
        environment,
        getattr(models, f"{prefix}Action"),
        getattr(models, f"{prefix}Observation"),
        env_name=name,
        max_concurrent_envs=room,
    )


def app(arguments: argparse.Namespace) -> Any:
    if arguments.era == "seed":
        if arguments.name != "echo" or arguments.http_session == "stateless":
            sys.stderr.write("of the seed's era there is echo, and one session for all\n")
            raise SystemExit(UNAVAILABLE)
        return seed_echo()
    if arguments.http_session == "shared":
        sys.stderr.write("HTTP is stateless since 0.2\n")
        raise SystemExit(UNAVAILABLE)
    if arguments.name == "echo":
        return echo(arguments.capacity)
    if arguments.name == "echo_mcp":
        return echo_mcp(arguments.capacity)
    if arguments.name == "trouble":
        sys.path.insert(0, str(Path(__file__).parents[1] / "environments" / "trouble"))
        return importlib.import_module("app").app
    return upstream(arguments.name, arguments.capacity)


class Server(uvicorn.Server):
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        assert sockets
        print(f"listening on http://127.0.0.1:{sockets[0].getsockname()[1]}", flush=True)


def listener(port: int) -> socket.socket:
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind(("127.0.0.1", port))
    return bound


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--era", choices=["seed", "today"], default="today")
    parser.add_argument("--http-session", choices=["shared", "stateless"], default="stateless")
    parser.add_argument("--capacity", type=int, default=16)
    arguments = parser.parse_args()
    served = app(arguments)
    with listener(arguments.port) as bound:
        Server(uvicorn.Config(served, log_level="warning")).run([bound])


if __name__ == "__main__":
    main()
