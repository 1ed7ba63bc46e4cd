"""The typed client of the template: each generation's own `openenv init` wrote it, nobody here did."""

from __future__ import annotations

import inspect
import uuid
from collections.abc import Callable
from typing import Any

from checks import Report, same
from echo.client import EchoEnv
from echo.models import EchoAction, EchoObservation


def run(report: Report, url: str, flavour: Callable[[Any], Any]) -> None:
    """Plays with one session."""
    with flavour(EchoEnv(base_url=url)) as client:
        play(report, client)
    with report.check("a closed client's session is gone"):
        with flavour(EchoEnv(base_url=url)) as client:
            same(client.state().step_count, 0)


def play(report: Report, client: Any) -> None:
    """One session's checks; each builds on what was before it."""
    with report.check("reset"):
        result = client.reset()
        assert type(result.observation) is EchoObservation, result
        same(result.observation.echoed_message, "Echo environment ready!")
        same((result.observation.message_length, result.reward, result.done), (0, 0.0, False))
        same((result.observation.reward, result.observation.done, result.observation.metadata), (0.0, False, {}))
    with report.check("step"):
        result = client.step(EchoAction(message="Hello, World!"))
        same((result.observation.echoed_message, result.observation.message_length), ("Hello, World!", 13))
        same((result.reward, result.done), (1.0, False))
        same(result.observation.metadata, {"original_message": "Hello, World!", "step": 1})
    with report.check("reward is the shortest text of its float"):
        same(client.step(EchoAction(message="abc")).reward, 0.30000000000000004)
    with report.check("length is in code points"):
        result = client.step(EchoAction(message="h\u00e9\u2713\U0001f642"))
        same((result.observation.echoed_message, result.observation.message_length), ("h\u00e9\u2713\U0001f642", 4))
    with report.check("control characters and quotes"):
        text = 'a"b\\c\n\t\u0000\u2028\x7f'
        same(client.step(EchoAction(message=text)).observation.echoed_message, text)
    with report.check("empty message"):
        result = client.step(EchoAction(message=""))
        same((result.observation.echoed_message, result.observation.message_length, result.reward), ("", 0, 0.0))
    with report.check("state"):
        state = client.state()
        same(state.step_count, 5)
        same(str(uuid.UUID(state.episode_id)), state.episode_id)
    with report.check("large message"):
        # Clients that do not say how much they take, take a mebibyte; the text comes back three times.
        length = 200_000 if "max_message_size_mb" in inspect.signature(EchoEnv).parameters else 100_000
        text = "\u2713" * length
        result = client.step(EchoAction(message=text))
        assert result.observation.echoed_message == text, len(result.observation.echoed_message)
        same(result.observation.message_length, length)
    with report.check("episode"):
        before = client.state().episode_id
        client.reset()
        after = client.state()
        same(after.step_count, 0)
        assert after.episode_id != before, before
    with report.check("many steps in order"):
        steps = [client.step(EchoAction(message=str(n))).observation for n in range(1, 101)]
        same([step.echoed_message for step in steps], [str(n) for n in range(1, 101)])
        same([step.metadata["step"] for step in steps], list(range(1, 101)))
        same(client.state().step_count, 100)
    with report.check("the caller names the episode"):
        client.reset(seed=7, episode_id="episode-7")
        same((client.state().episode_id, client.state().step_count), ("episode-7", 0))
