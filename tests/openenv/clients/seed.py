"""The first generation: HTTP, one environment for the whole server, a client that `openenv init` of 0.1.1 wrote."""

from __future__ import annotations

import uuid

import requests
from checks import Report, raised, same
from echo.client import EchoEnv
from echo.models import EchoAction, EchoObservation

READY = EchoObservation(echoed_message="Echo environment ready!", message_length=0, reward=0.0, done=False)


class Unfit(EchoEnv):
    """A client of another environment: its actions have fields that this one does not know."""

    def _step_payload(self, action: EchoAction) -> dict:
        return {"text": action.message}


def shared(report: Report, url: str) -> None:
    """Against `--era seed --http-session shared`."""
    client = EchoEnv(base_url=url)
    with report.check("reset"):
        result = client.reset()
        same(result.observation, READY)
        same((result.reward, result.done), (0.0, False))
    with report.check("step"):
        result = client.step(EchoAction(message="Hello, World!"))
        same(result.observation.echoed_message, "Hello, World!")
        same(result.observation.message_length, 13)
        # Python's 13 * 0.1: the reward of this era has no upper end.
        same((result.reward, result.done), (1.3, False))
        same(result.observation.metadata, {})
    with report.check("reward is the shortest text of its float"):
        same(client.step(EchoAction(message="abc")).reward, 0.30000000000000004)
    with report.check("length is in code points"):
        result = client.step(EchoAction(message="h\u00e9\u2713\U0001f642"))
        same(result.observation.echoed_message, "h\u00e9\u2713\U0001f642")
        same(result.observation.message_length, 4)
    with report.check("state"):
        state = client.state()
        same(state.step_count, 3)
        same(str(uuid.UUID(state.episode_id)), state.episode_id)
    with report.check("episode"):
        before = client.state().episode_id
        client.reset()
        after = client.state()
        same(after.step_count, 0)
        assert after.episode_id != before, before
        client.step(EchoAction(message="x"))
        same((client.state().episode_id, client.state().step_count), (after.episode_id, 1))
    with report.check("two clients share one environment"):
        other = EchoEnv(base_url=url + "/")
        other.step(EchoAction(message="y"))
        same((client.state().step_count, client.state().episode_id), (2, other.state().episode_id))
    with report.check("a connection of its own for each call"):
        plain = EchoEnv(base_url=url, default_headers={"Connection": "close"})
        same([plain.step(EchoAction(message="z")).reward for _ in range(3)], [0.1, 0.1, 0.1])
    with report.check("unfit action"):
        raised(
            requests.HTTPError,
            f"500 Server Error: Internal Server Error for url: {url}/step",
            Unfit(base_url=url).step,
            EchoAction(message="x"),
        )
        same(client.step(EchoAction(message="still")).reward, 0.5)
    with report.check("unknown path"):
        raised(
            requests.HTTPError,
            f"404 Client Error: Not Found for url: {url}/nowhere/reset",
            EchoEnv(base_url=f"{url}/nowhere").reset,
        )
    with report.check("health"):
        same(requests.get(f"{url}/health", timeout=15).json(), {"status": "healthy"})
    with report.check("close"):
        client.close()


def today(report: Report, url: str) -> None:
    """The first generation's client against today's environment on a shared session."""
    client = EchoEnv(base_url=url)
    with report.check("reset"):
        same(client.reset().observation, READY)
    with report.check("step and state share an environment"):
        # Today's reward ends at 1.0.
        same(client.step(EchoAction(message="Hello, World!")).reward, 1.0)
        client.step(EchoAction(message="again"))
        same(client.state().step_count, 2)


def stateless(report: Report, url: str) -> None:
    """The first generation's client where each request has an environment of its own."""
    client = EchoEnv(base_url=url)
    with report.check("reset"):
        same(client.reset().observation, READY)
    with report.check("each step is the first"):
        for _ in range(2):
            result = client.step(EchoAction(message="Hello, World!"))
            same((result.observation.message_length, result.reward), (13, 1.0))
        same(client.state().step_count, 0)
