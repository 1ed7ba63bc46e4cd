"""A real `hothouse serve` with a home of its own, which can be killed and started again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

from .patience import until

CGROUP = f"hothouse-python-{os.getpid()}"


def cgroup_arguments() -> list[str]:
    """Root works below a cgroup that no other server uses; others take what is delegated to them."""
    return ["--cgroup", CGROUP] if os.geteuid() == 0 else []


def remove_cgroups() -> None:
    """Removes the empty cgroups that servers leave behind."""
    for directory in [*Path("/sys/fs/cgroup").glob(f"*/{CGROUP}"), *Path("/sys/fs/cgroup").glob(CGROUP)]:
        until(f"{directory} to be empty", lambda directory=directory: _removed(directory))  # type: ignore[misc]


def _removed(directory: Path) -> bool:
    try:
        directory.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        # Something in it is still about to end.
        return False
    return True


class Server:
    def __init__(self, binary: str, directory: Path, *arguments: str) -> None:
        self._binary = binary
        self._directory = directory
        self._arguments = arguments
        self._address = "127.0.0.1:0"
        self.start()

    def start(self) -> None:
        """Starts it, on the port that it had before."""
        home = ["--home", str(self._directory / "home")]
        command = [self._binary, "serve", "--listen", self._address, "--json", "--on-exit", "destroy"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, *home, *cgroup_arguments(), *self._arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"the server did not start: {self.log.read_text()}"
        self.url: str = json.loads(line)["url"]
        self._address = self.url.partition("//")[2]

    @property
    def log(self) -> Path:
        return self._directory / "log"

    def kill(self) -> None:
        """Ends it without any warning; sandboxes and what runs in them live on."""
        self.process.kill()
        self._reap()

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self._reap()
        assert self.process.returncode == 0, self.log.read_text()

    def _reap(self) -> None:
        self.process.wait(30)
        assert self.process.stdout is not None
        self.process.stdout.close()
