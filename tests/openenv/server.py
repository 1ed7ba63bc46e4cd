"""The one place that knows how a server of environments is started: ours, or the reference (the package openenv itself).

`Served` starts one as a process of its own, waits for its word that it listens, and ends it by its process id.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

PATIENCE_S = 120.0
"""The longest wait for a server to listen: far more than it takes, since a busy machine is no mistake."""

LISTENING = "listening on "

REFERENCE = Path(__file__).resolve().parent / "reference" / "serve.py"

UPSTREAM = ("coding", "connect4", "grid_world")
"""What the openenv repository has, and no package."""


class Unavailable(Exception):
    """What is asked for does not exist in this kind of server: no failure, but nothing was tested."""


def command(name: str, *, era: str, http_session: str, capacity: int) -> list[str]:
    """The command line of a server of the environment `name`.

    `HOTHOUSE_BINARY` names our program. `OPENENV_REFERENCE` is set instead for the reference: the folder of the virtual
    environments. The one of the era serves; but those environments that are in no package need more packages.
    """
    flags = [name, "--port", "0", "--era", era, "--http-session", http_session, "--capacity", str(capacity)]
    reference = os.environ.get("OPENENV_REFERENCE")
    if reference is None:
        return [os.environ["HOTHOUSE_BINARY"], "env", "serve", *flags]
    venv = "seed" if era == "seed" else "environments" if name in UPSTREAM else "0.10"
    if venv == "environments" and "OPENENV_SOURCE" not in os.environ:
        raise Unavailable("it is in no package; OPENENV_SOURCE may name a checkout of the openenv repository")
    return [str(Path(reference, venv, "bin", "python")), str(REFERENCE), *flags]


INSTALLING_S = 900.0
"""As long, where what the environment requires is installed first."""


@dataclass(frozen=True)
class Site:
    """Where what environments require is installed, and of what."""

    home: Path
    constraints: Path
    """Their versions."""
    wheels: Path
    """Those that have none on PyPI. Only wheels are installed, since no author's code runs outside of a sandbox."""

    def variables(self) -> dict[str, str]:
        """Of a server that installs there."""
        return {"PIP_CONSTRAINT": str(self.constraints), "PIP_FIND_LINKS": str(self.wheels)}

    def packages(self) -> Path:
        """What a server has installed. All of a home require the same."""
        [site] = self.home.glob("envs/site-*/opt/hothouse/site")
        return site


class Served:
    """A running server; `url` is its base, without a slash at the end."""

    def __init__(
        self,
        name: str,
        *,
        era: str = "today",
        http_session: str = "stateless",
        capacity: int = 16,
        site: Site | None = None,
        flags: Sequence[str] = (),
    ) -> None:
        """Starts it. `site` is for environments that are not built in."""
        arguments = command(name, era=era, http_session=http_session, capacity=capacity)
        self._start([*arguments, *flags], site)

    @classmethod
    def mounted(cls) -> Served:
        """Starts the whole service, which has the same environments below `/openenv/NAME`."""
        if "OPENENV_REFERENCE" in os.environ:
            raise Unavailable("the reference serves one environment, at the root")
        served = cls.__new__(cls)
        served._start([os.environ["HOTHOUSE_BINARY"], "serve", "--listen", "127.0.0.1:0", "--json"])
        return served

    @classmethod
    def plain(cls, directory: Path, app: str, site: Site) -> Served:
        """Starts uvicorn with an environment's own server, and with the very packages that ours has installed for it."""
        served = cls.__new__(cls)
        program = REFERENCE.with_name("plain.py")
        variables = {"PYTHONPATH": str(site.packages()), "PYTHONDONTWRITEBYTECODE": "1"}
        served._start([sys.executable, str(program), str(directory), app], variables=variables)
        return served

    def _start(
        self, arguments: list[str], site: Site | None = None, variables: dict[str, str] | None = None
    ) -> None:
        self._home = tempfile.TemporaryDirectory(prefix="hothouse-openenv-")
        self._errors = Path(self._home.name, "stderr").open("w+", encoding="utf-8")
        self.process = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env={
                **os.environ,
                "HOTHOUSE_HOME": str(site.home) if site else self._home.name,
                **(site.variables() if site else {}),
                **(variables or {}),
            },
        )
        try:
            self.url = self._listening(INSTALLING_S if site else PATIENCE_S)
        except BaseException:
            self.stop()
            raise

    def _listening(self, patience: float) -> str:
        lines: queue.Queue[str | None] = queue.Queue()

        def drain() -> None:
            # To the end, so that a server which goes on talking never blocks on a full pipe.
            assert self.process.stdout is not None
            for line in self.process.stdout:
                lines.put(line)
            lines.put(None)

        threading.Thread(target=drain, daemon=True).start()
        deadline = time.monotonic() + patience
        said = []
        while True:
            try:
                line = lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise TimeoutError(f"not listening after {patience} s; it said {said} {self.errors()}") from None
            if line is None:
                status = self.process.wait()
                if status == 69:  # EX_UNAVAILABLE, of reference/serve.py
                    raise Unavailable(self.errors().strip())
                raise ChildProcessError(f"ended with {status} before it listened; it said {said} {self.errors()}")
            said.append(line)
            if line.startswith(LISTENING):
                return line[len(LISTENING) :].strip().rstrip("/")
            if line.startswith("{"):
                return json.loads(line)["url"].rstrip("/")

    def errors(self) -> str:
        """The end of what the server said on standard error."""
        self._errors.flush()
        return Path(self._errors.name).read_text(encoding="utf-8", errors="replace")[-2000:]

    def stop(self) -> None:
        """Ends the server, by its id; the second call does nothing."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._errors.close()
        self._home.cleanup()

    def __enter__(self) -> Served:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()
