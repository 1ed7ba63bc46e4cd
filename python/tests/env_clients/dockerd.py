"""A real Docker daemon with a directory and a network of its own."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

from ..patience import until

NETWORK = "10.213.7.1/24"
BRIDGE = Path("/sys/class/net/docker0")


def missing() -> str:
    """Why none can be started here; nothing when one can."""
    for program in ("dockerd", "docker", "ip"):
        if shutil.which(program) is None:
            return f"{program} is not installed"
    if os.geteuid() != 0:
        return "dockerd needs root"
    return "another dockerd has the bridge docker0" if BRIDGE.exists() else ""


class Docker:
    """It is ended with `end`, and takes what it made with it."""

    def __init__(self, place: Path) -> None:
        self.host = f"unix://{place}/socket"
        self._log = place / "log"
        command = ["dockerd", "--host", self.host, "--data-root", f"{place}/data", "--exec-root", f"{place}/exec"]
        # Ports are published by its own proxy: the rules of the machine's firewall stay as they are.
        command += ["--pidfile", f"{place}/pid", "--bip", NETWORK, "--iptables=false", "--ip6tables=false"]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        until("the Docker daemon", self._answers)

    def _answers(self) -> bool:
        assert self._process.poll() is None, self._log.read_text()[-2000:]
        return self.run("version").returncode == 0

    def run(self, *words: str, said: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """A command of `docker`."""
        variables = {**os.environ, "DOCKER_HOST": self.host}
        return subprocess.run(["docker", *words], input=said, capture_output=True, env=variables, check=False)

    def image_of(self, program: str, root: Path, *command: str) -> str:
        """An image of one program, with the libraries that it is linked to and nothing else."""
        listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
        libraries = re.findall(r"(/\S+) \(0x", listed)
        for file in (program, *libraries):
            target = root / file.lstrip("/") if file != program else root / "bin" / "hothouse"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, target)
        (root / "tmp").mkdir()
        packed = subprocess.run(["tar", "-C", root, "-c", "."], capture_output=True, check=True).stdout
        words = ", ".join(f'"{word}"' for word in command)
        made = self.run("import", "--change", f"CMD [{words}]", "-", "hothouse-test", said=packed)
        assert made.returncode == 0, made.stderr
        return "hothouse-test"

    def end(self) -> None:
        """Ends the daemon."""
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(60)
        subprocess.run(["ip", "link", "delete", "docker0"], capture_output=True, check=False)
