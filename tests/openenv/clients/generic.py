"""GenericEnvClient: dictionaries in, dictionaries out, so that exactly what was on the wire is seen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from checks import Report, raised, same
from openenv.core import GenericAction, GenericEnvClient

READY = {"metadata": {}, "echoed_message": "Echo environment ready!", "message_length": 0}


def run(report: Report, url: str, flavour: Callable[[Any], Any]) -> None:
    """Plays with one session of `echo`."""
    with flavour(GenericEnvClient(base_url=url)) as client:
        play(report, client)
    with report.check("base URL with a slash, and of WebSocket"):
        for other in (f"{url}/", url.replace("http://", "ws://")):
            with flavour(GenericEnvClient(base_url=other)) as client:
                same(client.reset().observation, READY)


def play(report: Report, client: Any) -> None:
    """One session's checks; each builds on what was before it."""
    with report.check("reset"):
        result = client.reset()
        same((result.observation, result.reward, result.done), (READY, 0.0, False))
    with report.check("step"):
        result = client.step({"message": "abc"})
        said = {"original_message": "abc", "step": 1}
        same(result.observation, {"metadata": said, "echoed_message": "abc", "message_length": 3})
        same((result.reward, result.done), (0.30000000000000004, False))
        # Clients know a second place of it since 0.4.
        if hasattr(result, "metadata"):
            same(result.metadata, said)
    with report.check("GenericAction, with metadata"):
        result = client.step(GenericAction(message="x", metadata={"note": [1, None]}))
        same(result.observation["metadata"], {"original_message": "x", "step": 2})
    with report.check("state"):
        state = client.state()
        same(sorted(state), ["episode_id", "step_count"])
        same(state["step_count"], 2)
    for name, action in {
        "missing field": {},
        "unknown field": {"message": "x", "loudness": 1},
        "wrong type": {"message": 5},
        "another environment's action": {"code": "print(1)"},
        "metadata of the wrong type": {"message": "x", "metadata": 1},
    }.items():
        with report.check(f"refused: {name}"):
            raised(RuntimeError, "Server error: Invalid message (code: VALIDATION_ERROR)", client.step, action)
    with report.check("a refused action is no step, and the session lives"):
        same(client.step({"message": "y"}).observation["metadata"]["step"], 3)
        same(client.state()["step_count"], 3)
    with report.check("reset drops arguments that the environment does not know"):
        same(client.reset(seed=3, difficulty="hard").observation, READY)
    with report.check("a seed is not checked here"):
        same(client.reset(seed=-5).observation, READY)
