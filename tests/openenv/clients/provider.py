"""from_docker_image with a container provider whose containers are servers of this machine: the way of the trainers."""

from __future__ import annotations

import socket
import urllib.request
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from checks import Report, same
from server import Served

try:
    from openenv.core.containers.runtime import ContainerProvider
except ImportError:
    from openenv_core.containers.runtime import ContainerProvider


class Processes(ContainerProvider):
    """Starts the program that serves environments; the image's name, less its tag, is the environment's."""

    def __init__(self, **how: Any) -> None:
        self.how = how
        self.calls: list[str] = []
        self.served: Served | None = None

    def start_container(
        self, image: str, port: int | None = None, env_vars: dict[str, str] | None = None, **_: Any
    ) -> str:
        self.calls.append(f"start {image}")
        self.served = Served(image.partition(":")[0], **self.how)
        return self.served.url

    def wait_for_ready(self, base_url: str, timeout_s: float = 30.0) -> None:
        self.calls.append("wait")
        # One look is enough: the server has said that it listens.
        with urllib.request.urlopen(f"{base_url}/health", timeout=timeout_s) as answer:
            same(answer.status, 200)

    def stop_container(self) -> None:
        self.calls.append("stop")
        if self.served is not None:
            self.served.stop()


def run(report: Report, start: Callable[[Processes], Any], action: Any, **how: Any) -> None:
    """Starts a container, plays, and closes; nothing may be left of it."""
    provider = Processes(**how)
    try:
        with report.check("from_docker_image"):
            client = start(provider)
            same(client.reset().observation.echoed_message, "Echo environment ready!")
            same(client.step(action(message="abc")).reward, 0.30000000000000004)
            same(client.state().step_count, 1)
        with report.check("close ends the container"):
            client.close()
            same(provider.calls, ["start echo:latest", "wait", "stop"])
            assert provider.served is not None
            at = urlsplit(provider.served.url)
            with socket.socket() as probe:
                assert probe.connect_ex((at.hostname, at.port)) != 0, "something still listens"
    finally:
        if provider.served is not None:
            provider.served.stop()
