"""Plays one environment twice, through our server and through plain uvicorn, and compares whatever a client sees.

    python unmodified.py < PLAYED

PLAYED has a JSON object on each line, an environment: `name`, `directory`, the URLs `ours` and `plain`, `reset` (what resets
get), and `policy`, one of those below. Each check is a JSON line on standard output. One process for all of them, since
importing the client takes seconds.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "clients")]

from checks import Report, same  # noqa: E402
from http_exchange import exchange, less_urls  # noqa: E402
from openenv.core import GenericEnvClient  # noqa: E402
from openenv.core.client_types import StepResult  # noqa: E402
from openenv.core.env_client import EnvClient  # noqa: E402
from openenv.core.env_server.types import Action, Observation, State  # noqa: E402

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
STEPS = 24
STEPS_DRAWN = 4
"""Before either of two games that chance decides has ended."""
TRIES = 60
"""Resets until both sides begin alike, for environments that take no seed: the rarest beginning of any is one in five."""

Policy = Callable[[dict[str, Any], int], dict[str, Any]]
"""An action, of the observation and the number of the step."""


def nth(values: list[Any], number: int) -> Any:
    """One of them, another one each time."""
    return values[number * 7 % len(values)]


POLICIES: dict[str, Policy] = {
    "atari": lambda seen, number: {"action_id": nth(seen["legal_actions"], number)},
    "chess": lambda seen, number: {"move": nth(seen["legal_moves"], number)},
    "code": lambda _, number: {"code": ["x = 6", "print(x * 7)", "x / 0", "[x, x]"][number % 4]},
    "column": lambda seen, number: {"column": nth(seen["legal_actions"], number)},
    "direction": lambda _, number: {"action": ["UP", "DOWN", "RIGHT"][number % 3]},
    "echo": lambda _, number: {"message": "\u2713" * number},
    "openspiel": lambda seen, number: {"action_id": nth(seen["legal_actions"], number)},
    "answer": lambda _, number: {"answer": str(number)},
    "trouble": lambda _, number: {"cmd": ["ok", "bool", "int", "meta"][number % 4], "n": number},
}


def plain(value: Any) -> Any:
    """The value less what is another one for each episode."""
    return json.loads(UUID.sub("uuid", json.dumps(less_urls(value))))


def told(call: Callable[[], StepResult[Any]]) -> Any:
    """What a client gets of a reset or a step: a result, or an error and its text."""
    try:
        result = call()
    except RuntimeError as error:
        return str(error)
    return plain([result.observation, result.reward, result.done, result.metadata])


def shape(value: Any) -> Any:
    """The value less its numbers and texts, for environments whose beginning is another one each time."""
    if isinstance(value, dict):
        return {key: shape(one) for key, one in value.items()}
    if isinstance(value, list):
        return "list"
    return type(value).__name__


def likeness(played: dict[str, Any]) -> Callable[[Any], Any]:
    """What is compared of an answer, which is a list of its parts or an object."""
    if not played["drawn"]:
        return lambda value: value
    return lambda value: [shape(one) for one in value] if isinstance(value, list) else shape(value)


class Pair:
    """A client of each side, which hear the same."""

    def __init__(self, ours: Any, reference: Any, played: dict[str, Any]) -> None:
        self.ours = ours
        self.reference = reference
        self._reset = played["reset"]
        # Where chance decides, with no seed, both sides show the same fields and types, not the same values.
        self._like = likeness(played)

    def begin(self) -> Any:
        """Resets both, until they begin alike; what they show."""
        for _ in range(TRIES):
            ours, reference = (told(lambda: side.reset(**self._reset)) for side in (self.ours, self.reference))
            if ours == reference:
                break
        same(self._like(ours), self._like(reference))
        assert not isinstance(ours, str), ours
        return ours

    def step(self, action: dict[str, Any]) -> Any:
        """What both answer, which is the same."""
        ours, reference = (told(lambda: side.step(action)) for side in (self.ours, self.reference))
        if isinstance(ours, str) or isinstance(reference, str):
            same(ours, reference)
        same(self._like(ours), self._like(reference))
        return ours

    def state(self) -> Any:
        """What both are at."""
        ours, reference = (plain(side.state()) for side in (self.ours, self.reference))
        same(self._like(ours), self._like(reference))
        return ours


def generic(report: Report, played: dict[str, Any]) -> None:
    """The client without types, over WebSocket."""
    policy = POLICIES[played["policy"]]
    with (
        GenericEnvClient(base_url=played["ours"], max_message_size_mb=64).sync() as ours,
        GenericEnvClient(base_url=played["plain"], max_message_size_mb=64).sync() as reference,
    ):
        pair = Pair(ours, reference, played)
        with report.check("state before the first episode"):
            pair.state()
        with report.check("reset"):
            seen = pair.begin()
        steps = STEPS_DRAWN if played["drawn"] else STEPS
        with report.check(f"{steps} steps, and their episodes"):
            for number in range(steps):
                seen = pair.step(policy(seen[0], number))
                assert not isinstance(seen, str), seen
                if seen[2]:
                    seen = pair.begin()
        with report.check("state"):
            pair.state()
        with report.check("an action that is none"):
            same(pair.step({"no_such_field": 1}), "Server error: Invalid message (code: VALIDATION_ERROR)")
        with report.check("the session lives, and begins anew"):
            pair.begin()
            pair.state()
    with report.check("more sessions than its own server has, each its own"):
        clients = [GenericEnvClient(base_url=played["ours"], max_message_size_mb=64).sync() for _ in range(2)]
        try:
            for client in clients:
                client.connect()
                client.reset(**played["reset"])
            ids = [client.state().get("episode_id") for client in clients]
            # One that names its episode itself names them all alike.
            assert ids[0] != ids[1] or not UUID.fullmatch(str(ids[0])), ids
        finally:
            for client in clients:
                client.close()


def subclass(module: Any, base: type) -> Any:
    """The class of this kind that a module has itself."""
    found = [one for _, one in inspect.getmembers(module, inspect.isclass) if issubclass(one, base) and one is not base]
    return found[0] if found else None


def typed_client(directory: Path) -> tuple[Any, Any] | None:
    """The client that comes with the environment, or one of its types; and its action. None where it has no types."""
    if (directory / "client.py").exists():
        sys.path.insert(0, str(directory.parent))
        client = subclass(import_module(f"{directory.name}.client"), EnvClient)
        return client, subclass(import_module(f"{directory.name}.models"), Action)
    if not (directory / "models.py").exists():
        return None
    # Each directory's own.
    sys.modules.pop("models", None)
    sys.path.insert(0, str(directory))
    models = import_module("models")
    seen, state = subclass(models, Observation), subclass(models, State) or State

    class Typed(EnvClient[Any, Any, Any]):
        """As the documentation tells authors to write one; a field that a type does not have is an error."""

        def _step_payload(self, action: Any) -> dict[str, Any]:
            return action.model_dump()

        def _parse_result(self, payload: dict[str, Any]) -> StepResult[Any]:
            observation = seen(**payload["observation"], reward=payload["reward"], done=payload["done"])
            return StepResult(observation=observation, reward=payload["reward"], done=payload["done"])

        def _parse_state(self, payload: dict[str, Any]) -> Any:
            return state(**payload)

    return Typed, subclass(models, Action)


def dumped(call: Callable[[], Any]) -> Any:
    """A typed result as JSON has it."""
    result = call()
    return plain([result.observation.model_dump(mode="json"), result.reward, result.done])


def typed(report: Report, played: dict[str, Any]) -> None:
    """The client with types, over WebSocket."""
    there = typed_client(Path(played["directory"]))
    if there is None:
        return
    client, action = there
    policy, like = POLICIES[played["policy"]], likeness(played)
    how = {"max_message_size_mb": 64}
    with client(base_url=played["ours"], **how).sync() as ours, client(base_url=played["plain"], **how).sync() as other:
        with report.check("reset"):
            for _ in range(TRIES):
                seen, wanted = (dumped(lambda: side.reset(**played["reset"])) for side in (ours, other))
                if seen == wanted:
                    break
            same(like(seen), like(wanted))
        with report.check("steps"):
            for number in range(4):
                acted = action(**policy(seen[0], number))
                seen, wanted = (dumped(lambda: side.step(acted)) for side in (ours, other))
                same(like(seen), like(wanted))
                if seen[2]:
                    break
        with report.check("state"):
            seen, wanted = (plain(side.state().model_dump(mode="json")) for side in (ours, other))
            same(like(seen), like(wanted))


def over_http(report: Report, played: dict[str, Any]) -> None:
    """Requests, each of which has an environment of its own."""
    same_each_time = not played.get("drawn")
    action = POLICIES[played["policy"]]({"legal_actions": [0], "legal_moves": ["e2e4"]}, 1)
    for name, method, path, body in [
        ("health", "GET", "/health", None),
        ("schema", "GET", "/schema", None),
        ("state", "GET", "/state", None),
        ("reset", "POST", "/reset", played["reset"]),
        ("step", "POST", "/step", {"action": action}),
        ("step without an action", "POST", "/step", {}),
        ("step of another environment", "POST", "/step", {"action": {"no_such_field": 1}}),
        ("reset with no seed", "POST", "/reset", {"seed": -1}),
    ]:
        with report.check(name):
            answers = [exchange(played[side], method, path, body) for side in ("ours", "plain")]
            same(*(answer.status for answer in answers))
            if answers[0].status == 500:
                # Of an environment that raised the original says nothing more; ours says why.
                continue
            ours, reference = (plain(answer.json()) for answer in answers)
            if path == "/state":
                # The original leaves out what a state has of its own.
                ours = {key: value for key, value in ours.items() if key in reference}
            if same_each_time or path == "/schema" or answers[0].status != 200:
                same(ours, reference)
            else:
                same(shape(ours), shape(reference))
    with report.check("metadata"):
        ours, reference = (exchange(played[side], "GET", "/metadata").json() for side in ("ours", "plain"))
        same(sorted(ours), sorted(reference))


def main() -> None:
    """Plays one after the other."""
    for line in sys.stdin:
        play(json.loads(line))


def play(played: dict[str, Any]) -> None:
    """Plays it."""
    for client, transport, part in [
        ("GenericEnvClient", "ws", generic),
        ("typed", "ws", typed),
        ("raw", "http", over_http),
    ]:
        report = Report(f"0.10 {client} {played['name']}", transport)
        try:
            part(report, played)
        except Exception:  # noqa: BLE001 - what breaks outside of a check fails its part, not the ones behind it
            with report.check("runs to its end"):
                raise


if __name__ == "__main__":
    main()
