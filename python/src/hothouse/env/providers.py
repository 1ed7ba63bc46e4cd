"""Servers that a client starts for itself: of an environment by its name, and of an image in Docker."""

from __future__ import annotations

import atexit
import subprocess
import time
from collections.abc import Mapping, Sequence
from typing import Any, Optional, Protocol
from urllib.parse import urlsplit

import httpx

from ..local import LocalServer
from .errors import EnvError

START_S = 300.0
"""How long an environment may take until it is served: what it requires is installed first."""
READY_S = 60.0
"""How long a container may take until it answers."""
CONTAINER_PORT = 8000
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.02, 0.5


class EnvProvider(Protocol):
    """Starts servers in containers; what is written for OpenEnv will do."""

    def start_container(self, image: str, **kwargs: Any) -> str:
        """Starts a container and gives its base URL."""
        ...

    def wait_for_ready(self, base_url: str, timeout_s: float = READY_S) -> None:
        """Waits until it answers."""

    def stop_container(self) -> None:
        """Ends it."""


class Running(Protocol):
    """A server that was started."""

    @property
    def url(self) -> str:
        """Its base URL."""

    def end(self) -> None:
        """Ends it. The second time nothing happens."""


class Served:
    """`hothouse env serve NAME` as a child of this process, which ends with it in whatever way that ends."""

    def __init__(self, name: str, *arguments: str) -> None:
        self._server = LocalServer(("env", "serve", name, "--port", "0", "--json", *arguments), START_S)
        self.url = self._server.url
        atexit.register(self._server.end)

    def end(self) -> None:
        """Ends the server and all that it kept."""
        atexit.unregister(self._server.end)
        self._server.end()


class Contained:
    """A container of a provider."""

    def __init__(self, image: str, provider: Optional[EnvProvider] = None, **kwargs: Any) -> None:
        self._provider: EnvProvider = provider or DockerProvider()
        self.url = self._provider.start_container(image, **kwargs)
        self._ended = False
        try:
            self._provider.wait_for_ready(self.url)
        except BaseException:
            self.end()
            raise

    def end(self) -> None:
        """Ends the container."""
        if not self._ended:
            self._ended = True
            self._provider.stop_container()


class DockerProvider:
    """Runs an image with the program `docker`, on a free port of this machine."""

    def __init__(self, docker: str = "docker") -> None:
        self._docker = docker
        self._container: Optional[str] = None

    def start_container(
        self,
        image: str,
        port: Optional[int] = None,
        env_vars: Optional[Mapping[str, str]] = None,
        arguments: Sequence[str] = (),
        **kwargs: Any,
    ) -> str:
        """Starts a container and gives its base URL. `arguments` go to `docker run`."""
        if kwargs:
            raise TypeError(f"docker takes no {', '.join(kwargs)}; it takes port, env_vars and arguments")
        if self._container is not None:
            raise EnvError(f"this provider runs container {self._container} already", "CONTAINER_FAILED")
        variables = [word for name, value in (env_vars or {}).items() for word in ("-e", f"{name}={value}")]
        # Docker takes a free one itself when none is named.
        publish = f"127.0.0.1:{'' if port is None else port}:{CONTAINER_PORT}"
        self._container = self._run("run", "-d", "--rm", "-p", publish, *variables, *arguments, image)
        atexit.register(self.stop_container)
        try:
            where = self._run("port", self._container, f"{CONTAINER_PORT}/tcp").splitlines()[0]
        except BaseException:
            self.stop_container()
            raise
        return f"http://{where}"

    def wait_for_ready(self, base_url: str, timeout_s: float = READY_S) -> None:
        """Waits until `/health` answers. Raises `EnvError` when that takes too long, or the container ended."""
        deadline, pause = time.monotonic() + timeout_s, FIRST_PAUSE_S
        while True:
            try:
                if httpx.get(f"{base_url}/health", timeout=2.0, trust_env=False).is_success:
                    return
            except httpx.TransportError:
                # Nothing listens there yet.
                pass
            if time.monotonic() > deadline:
                address = urlsplit(base_url).netloc
                raise EnvError(f"{address} did not answer /health within {timeout_s:g} s", "CONTAINER_FAILED")
            if self._container is not None:
                # Fails with what docker says when it is gone.
                self._run("inspect", "--format", "{{.State.Running}}", self._container)
            time.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_S)

    def stop_container(self) -> None:
        """Ends the container and removes it. The second time nothing happens."""
        container, self._container = self._container, None
        if container is not None:
            atexit.unregister(self.stop_container)
            self._run("rm", "-f", container)

    def _run(self, *words: str) -> str:
        try:
            done = subprocess.run([self._docker, *words], capture_output=True, text=True, check=False)
        except OSError as error:
            raise EnvError(f"cannot run {self._docker}: {error}", "CONTAINER_FAILED") from error
        if done.returncode != 0:
            raise EnvError(f"docker {words[0]}: {done.stderr.strip()[-1000:]}", "CONTAINER_FAILED")
        return done.stdout.strip()
