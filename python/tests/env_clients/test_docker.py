"""Environments in containers of a real Docker daemon."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from hothouse.env import DockerProvider, EnvError, GenericEnvClient

from .dockerd import Docker, missing


@pytest.fixture(scope="module")
def docker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Docker]:
    reason = missing()
    if reason:
        told = os.environ.get("HOTHOUSE_SKIPS")
        if told:
            with Path(told).open("a") as skips:
                skips.write(f"environments in Docker: {reason}\n")
        pytest.skip(reason)
    running = Docker(tmp_path_factory.mktemp("docker"))
    before, os.environ["DOCKER_HOST"] = os.environ.get("DOCKER_HOST"), running.host
    yield running
    os.environ.pop("DOCKER_HOST")
    if before is not None:
        os.environ["DOCKER_HOST"] = before
    running.end()


SERVE = ("/bin/hothouse", "env", "serve", "echo", "--host", "0.0.0.0", "--port", "8000", "--insecure")


@pytest.mark.timeout(180)
def test_an_image_is_run_played_and_removed(docker: Docker, binary: str, tmp_path: Path) -> None:
    image = docker.image_of(binary, tmp_path, *SERVE)
    with GenericEnvClient.from_docker_image(image, env_vars={"RUST_LOG": "warn"}) as env:
        assert env.base_url.startswith("http://127.0.0.1:")
        env.reset()
        assert env.step({"message": "hello"}).observation["echoed_message"] == "hello"
        assert len(docker.run("ps", "--quiet").stdout.split()) == 1
    assert docker.run("ps", "--all", "--quiet").stdout == b""
    # What Docker says is what one reads.
    provider = DockerProvider()
    with pytest.raises(EnvError, match=r"docker run: .*no such file or directory"):
        GenericEnvClient.from_image(image, provider, arguments=["--entrypoint", "/none"])
    with pytest.raises(EnvError, match=r"docker run: .*hothouse-none"):
        GenericEnvClient.from_image("hothouse-none", provider, arguments=["--pull", "never"])
    # A container that ends at once is told of long before the time for it is over.
    with pytest.raises(EnvError, match=r"docker (port|inspect): "):
        GenericEnvClient.from_image(image, provider, arguments=["--entrypoint", "/bin/hothouse"])
    assert docker.run("ps", "--all", "--quiet").stdout == b""
