"""Clients of one session, against a real server."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hothouse.env import (
    AsyncGenericEnvClient,
    DockerProvider,
    EnvClient,
    EnvConnectionLost,
    EnvError,
    GenericEnvClient,
    HTTPEnvClient,
    StepResult,
)

from ..patience import until
from .conftest import EnvServer


def test_an_episode(echo: str) -> None:
    with GenericEnvClient(base_url=echo).sync() as env:
        result = env.reset(seed=1, episode_id="mine")
        assert (result.reward, result.done) == (0.0, False)
        assert env.state() == {"episode_id": "mine", "step_count": 0}
        result = env.step({"message": "hé\n"})
        assert (result.observation["echoed_message"], result.done) == ("hé\n", False)
        assert result.metadata == {"original_message": "hé\n", "step": 1}
        assert env.state()["step_count"] == 1
    env.close()


@dataclass
class Said:
    message: str


class Echo(EnvClient[Said, str, int]):
    def _parse_result(self, payload: dict[str, Any]) -> StepResult[str]:
        return StepResult(payload["observation"]["echoed_message"], payload["reward"], payload["done"])

    def _parse_state(self, payload: dict[str, Any]) -> int:
        return int(payload["step_count"])


def test_a_client_of_ones_own(echo: str) -> None:
    with Echo(echo) as env:
        env.reset()
        assert env.step(Said("a")).observation == "a"
        assert env.state() == 1


def test_what_is_wrong_with_an_action_is_told_and_the_session_lives_on(echo: str) -> None:
    with GenericEnvClient(echo) as env:
        env.reset()
        env.step({"message": "a"})
        with pytest.raises(EnvError, match=r"message: Field required") as caught:
            env.step({"text": "b"})
        assert caught.value.code == "VALIDATION_ERROR"
        assert caught.value.errors[0]["loc"] == ["message"]
        with pytest.raises(TypeError):
            env.step({"message": object()})
        assert env.state()["step_count"] == 1


def test_large_messages_come_through(echo: str) -> None:
    text = "\u2713" * 2_000_000
    with GenericEnvClient(echo) as env:
        env.reset()
        assert env.step({"message": text}).observation["echoed_message"] == text


def test_threads_may_share_a_client(echo: str) -> None:
    with GenericEnvClient(echo) as env, ThreadPoolExecutor(8) as threads:
        env.reset()
        texts = [str(number) for number in range(64)]
        results = list(threads.map(lambda text: env.step({"message": text}), texts))
        assert [result.observation["echoed_message"] for result in results] == texts


def test_a_server_that_is_full_says_so(serve: Callable[..., EnvServer]) -> None:
    server = serve("echo", "--capacity", "1")
    with GenericEnvClient(server.url) as env:
        env.reset()
        with pytest.raises(EnvError) as caught:
            GenericEnvClient(server.url).reset()
        assert (caught.value.code, caught.value.data["max_sessions"]) == ("CAPACITY_REACHED", 1)


def test_nobody_there() -> None:
    with pytest.raises(EnvError, match=r"cannot reach ws://127\.0\.0\.1:1/ws") as caught:
        GenericEnvClient("http://127.0.0.1:1").connect()
    assert caught.value.code == "CONNECTION_FAILED"
    with pytest.raises(ValueError, match="begins with http://"):
        GenericEnvClient("127.0.0.1:1").connect()


def test_a_lost_session_is_not_replaced_unasked(serve: Callable[..., EnvServer]) -> None:
    server = serve("echo")
    env = GenericEnvClient(server.url)
    env.reset()
    server.end(signal.SIGKILL)
    for _ in range(2):
        with pytest.raises(EnvConnectionLost):
            env.step({"message": "a"})
    with pytest.raises(EnvError, match="cannot reach"):
        env.reset()
    env.close()


def test_an_answer_that_is_late(plain: str) -> None:
    with GenericEnvClient(plain, message_timeout_s=1e-6) as env:
        with pytest.raises(EnvConnectionLost) as caught:
            env.reset()
        assert caught.value.code == "TIMEOUT"


async def test_an_asynchronous_episode(echo: str) -> None:
    async with AsyncGenericEnvClient(echo) as env:
        await env.reset(episode_id="mine")
        results = await asyncio.gather(*(env.step({"message": str(number)}) for number in range(20)))
        assert [result.observation["echoed_message"] for result in results] == [str(number) for number in range(20)]
        assert await env.state() == {"episode_id": "mine", "step_count": 20}
        with pytest.raises(EnvError) as caught:
            await env.step({})
        assert caught.value.code == "VALIDATION_ERROR"
    await env.close()


async def test_a_cancelled_step_gives_no_other_one_its_answer(echo: str) -> None:
    async with AsyncGenericEnvClient(echo) as env:
        await env.reset()
        step = asyncio.create_task(env.step({"message": "a" * 1_000_000}))
        await asyncio.sleep(0)
        step.cancel()
        with pytest.raises(asyncio.CancelledError):
            await step
        await env.reset()
        assert (await env.step({"message": "b"})).observation["echoed_message"] == "b"


def test_over_http(binary: str) -> None:
    with HTTPEnvClient[Any, Any, Any].from_env("echo") as env:
        env.reset()
        assert env.step({"message": "a"}).observation["echoed_message"] == "a"
        assert env.state()["step_count"] == 1
        with pytest.raises(EnvError, match="Field required") as caught:
            env.step({"text": "a"})
        assert caught.value.code == "VALIDATION_ERROR"


LINES = """
import sys
from hothouse.env import GenericEnvClient
env = GenericEnvClient.from_env("echo")
env.reset()
print('{"pid": %d, "home": "%s"}' % (env._running._server.pid, env._running._server.home), flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, None])
def test_a_private_server_ends_with_its_process(binary: str, number: signal.Signals | None) -> None:
    command = [sys.executable, "-c", LINES]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, **pipes) as process:  # type: ignore[call-overload]
        told = json.loads(process.stdout.readline())
        assert Path(f"/proc/{told['pid']}").exists()
        if number is not None:
            process.send_signal(number)
    until("the server's end", lambda: not Path(told["home"]).exists())
    assert not Path(f"/proc/{told['pid']}").exists()


def test_a_private_server_ends_with_its_client(binary: str) -> None:
    begun = time.monotonic()
    with GenericEnvClient.from_env("echo") as env:
        env.reset()
        home = env._running._server.home  # type: ignore[union-attr]
    assert not home.exists()
    assert time.monotonic() - begun < 30


class Provided:
    """A provider of somebody's own, whose containers are real servers."""

    def __init__(self, serve: Callable[..., EnvServer]) -> None:
        self._serve = serve
        self.running: list[EnvServer] = []

    def start_container(self, image: str, **kwargs: Any) -> str:
        self.running.append(self._serve(image, *kwargs["arguments"]))
        return self.running[0].url

    def wait_for_ready(self, base_url: str, timeout_s: float = 1.0) -> None:
        DockerProvider().wait_for_ready(base_url, timeout_s)

    def stop_container(self) -> None:
        self.running.pop().end()


def test_an_image_runs_where_its_provider_runs_it(serve: Callable[..., EnvServer]) -> None:
    provider = Provided(serve)
    with GenericEnvClient.from_docker_image("echo", provider, arguments=["--capacity", "1"]) as env:
        assert env.reset().done is False
        assert len(provider.running) == 1
    assert provider.running == []
    with pytest.raises(EnvError, match="cannot run"):
        GenericEnvClient.from_image("echo:1", DockerProvider("/nowhere/docker"))
    with pytest.raises(EnvError, match="did not answer /health"):
        DockerProvider().wait_for_ready("http://127.0.0.1:1", 0.1)


def test_nothing_is_imported_before_it_is_used() -> None:
    lines = (
        "import sys, hothouse.env; loaded = {'websockets', 'gymnasium', 'numpy'} & set(sys.modules); "
        "assert not loaded, loaded; hothouse.env.GenericEnvClient; assert 'websockets' in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True, check=False, env=os.environ)
    assert done.returncode == 0, done.stderr
