"""Sends again what was sent when a server of the original was recorded, and compares what comes back, field by field.

    python recordings.py [DIRECTORY] < SERVERS

SERVERS is a JSON object: the name of each server in matrix.py, and its URL; a recording whose server is left out is not
played. Servers have to be new, since the recordings count steps from the start. The recordings are no part of this
project: without the directory, `HOTHOUSE_SKIPS` is told, and nothing is compared.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE / "clients")]

from checks import Report, same  # noqa: E402
from exceptions_of import allowed  # noqa: E402
from frames import ask, closed, heard, socket  # noqa: E402
from http_exchange import Answer, exchange  # noqa: E402
from recorded import Exchange, Step, exchanges, messages, steps  # noqa: E402

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


class Plain:
    """Takes from JSON what differs between two servers that do the same. One for each side of a comparison."""

    def __init__(self) -> None:
        self._uuids: dict[str, str] = {}

    def __call__(self, value: Any) -> Any:
        if isinstance(value, dict):
            # `url` of an error: it names the version of pydantic. `description` of a schema: the author's own words.
            return {
                key: self(one)
                for key, one in value.items()
                if not (key == "url" and "type" in value) and not (key == "description" and "title" in value)
            }
        if isinstance(value, list):
            return [self(one) for one in value]
        if isinstance(value, str):
            # Random ids become the number of their first appearance, so that equal ones have to stay equal.
            value = UUID.sub(lambda found: self._uuids.setdefault(found[0], f"uuid {len(self._uuids)}"), value)
            # The recorded template was of another name: `openenv init my_env`.
            return re.sub(r"\bMy(?: ?Env(?= )|(?=Action|Observation|Environment))", "Echo", value)
        return value


def contents(path: str, body: bytes, plain: Plain) -> Any:
    """What is compared of a body."""
    try:
        value = json.loads(body)
    except ValueError:
        return body.decode()
    if path == "/openapi.json":
        # A description of the same routes by another program has other words, names and examples. What a client may
        # build on is which routes there are, and which API it says that it is. /mcp, /ws and pages are not listed.
        return {
            "title": value["info"]["title"],
            "version": value["info"]["version"],
            "routes": sorted(f"{method} {route}" for route, methods in value["paths"].items() for method in methods),
        }
    if path == "/metadata" and "description" in value:
        # The one free text among its fields.
        value["description"] = bool(value["description"])
    return plain(value)


def replay_http(report: Report, file: Path, url: str) -> None:
    """Each request on a connection of its own, as when it was recorded."""
    recorded_side, our_side = Plain(), Plain()
    for one in exchanges(file):
        with report.check(one.name):
            answer = exchange(url, one.method, one.path, one.body, content_type=one.content_type)
            compare(file.stem, one, answer, recorded_side, our_side)


def compare(stem: str, one: Exchange, answer: Answer, recorded_side: Plain, our_side: Plain) -> None:
    """Status, body, and those headers that a client may act on; not `date`, `server`, `connection`, nor the length."""
    # Both sides count ids, also where the exception asks for nothing else.
    wanted = (one.status, contents(one.path, one.answer, recorded_side))
    found = (answer.status, contents(one.path, answer.body, our_side))
    if allowed(stem, one.name) is None:
        same(found, wanted)
        for header in ("content-type", "allow"):
            same(answer.headers.get(header), one.headers.get(header))


def replay_ws(report: Report, file: Path, url: str) -> None:
    """All messages on one connection."""
    recorded_side, our_side = Plain(), Plain()
    with socket(url) as connection:
        for one in messages(file):
            with report.check(one.name):
                answer = our_side(ask(connection, one.sent))
                if allowed(file.stem, one.name) is None:
                    same(answer, recorded_side(one.answer))


def replay_code(report: Report, file: Path, reset: Callable[[], Any], step: Callable[[str], Any], state: Callable[[], Any]) -> None:
    """Pieces of code, one after the other in one session."""
    at_first, played, after = steps(file)
    with report.check("reset"):
        same(reset(), at_first)
    for one in played:
        if allowed(file.stem, one.code) == "not played":
            continue
        with report.check(one.code[:60]):
            code_is(file.stem, one, step(one.code))
    if "state" in after:
        if allowed(file.stem, "x = ().__class__.__bases__") is not None:
            # That one has changed x here, which it could not there.
            step("x = 8")
        with report.check("reset keeps names"):
            same(reset(), after["reset"])
            same(step("print(x)"), after["after reset x"])
    else:
        with report.check("reset forgets names"):
            same(reset(), at_first)
            answer = step("print(x)")["data"]
            same((answer["observation"]["exit_code"], answer["reward"]), (1, 0.1))
    with report.check("state"):
        kept = state()
        same(sorted(kept), ["episode_id", "last_exit_code", "step_count"])
        same(kept["step_count"], 1)


def code_is(stem: str, one: Step, answer: Any) -> None:
    """Compares what code came to, as far as the recording goes."""
    data = answer.get("data", answer)
    exception = allowed(stem, one.code)
    if one.answer is None:
        # Cut in the middle of a long text: the fields before it are whole.
        stdout = re.search(r'"stdout":"((?:[^"\\]|\\.)*)', one.cut or "")
        violation = re.search(r'"safety_violation":("(?:[^"\\]|\\.)*")', one.cut or "")
        same(data.get("metadata", {}).get("safety_violation"), json.loads(violation[1]) if violation else None)
        if exception is None and stdout:
            begin = json.loads(f'"{stdout[1]}"')
            same(data["observation"]["stdout"][: len(begin)], begin)
            same(bool(data["observation"]["stderr"]), '"stderr":"T' in (one.cut or ""))
        return
    wanted = one.answer.get("data", one.answer)
    same((data["reward"], data["done"], data.get("metadata")), (wanted["reward"], wanted["done"], wanted.get("metadata")))
    if exception is not None:
        return
    same(sorted(data["observation"]), sorted(wanted["observation"]))
    same(data["observation"]["stdout"], wanted["observation"]["stdout"])
    same(data["observation"]["exit_code"], wanted["observation"]["exit_code"])
    # How an error is told is the executor's own way; that Python's own name and words for it are in it, is not.
    words = wanted["observation"]["stderr"].rpartition(" due to: ")[2]
    found = data["observation"]["stderr"]
    assert (words in found) if words else found == "", f"{found!r} without {words!r}"


def code_over_http(report: Report, file: Path, url: str) -> None:
    """The shared environment of the first era."""

    def post(path: str, body: Any) -> Any:
        answer = exchange(url, "POST", path, body)
        same(answer.status, 200)
        return answer.json()

    replay_code(
        report,
        file,
        lambda: post("/reset", {}),
        lambda code: post("/step", {"action": {"code": code}}),
        lambda: exchange(url, "GET", "/state").json(),
    )


def code_over_ws(report: Report, file: Path, url: str) -> None:
    """A session of today's."""
    with socket(url) as connection:
        replay_code(
            report,
            file,
            lambda: ask(connection, {"type": "reset", "data": {}}),
            lambda code: ask(connection, {"type": "step", "data": {"code": code}}),
            lambda: ask(connection, {"type": "state"})["data"],
        )


def full(report: Report, file: Path, url: str) -> None:
    """What eight sessions are told, and the ninth: this recording is notes, so what was sent is written here again.

    Its second half, sessions made over HTTP, is what `jsonrpc.sessions` asserts.
    """
    lines = file.read_text(encoding="utf-8").splitlines()

    def noted(label: str) -> Any:
        [line] = [line for line in lines if line.startswith(label)]
        return line.removeprefix(label).strip()

    def rpc(method: str, **params: Any) -> Any:
        return exchange(url, "POST", "/mcp", {"jsonrpc": "2.0", "id": 1, "method": method, "params": params})

    session = rpc("openenv/session/create").json()["result"]["session_id"]
    connections = [socket(url) for _ in range(7)]
    try:
        with report.check("room for eight"):
            for number, connection in enumerate(connections):
                answer = json.dumps(ask(connection, {"type": "reset", "data": {}}), separators=(",", ":"))
                begin = noted(f"{number} {{\"type\":\"observation\"") if number else noted('0 {"type":"observation"')
                same(answer[: len(begin) + 21], '{"type":"observation"' + begin)
        with report.check("the ninth"):
            with socket(url) as ninth:
                answer = json.dumps(heard(ninth), separators=(",", ":"))
                begin = noted("8 {")
                same(answer[: len(begin) + 1], "{" + begin)
                same(f"8 closed {closed(ninth)} (OK)" in lines, True)
        with report.check("a session over HTTP at capacity"):
            answer = rpc("openenv/session/create")
            same(f"{answer.status} {answer.text}", noted("http create at cap:"))
        with report.check("a reset over HTTP at capacity"):
            answer = exchange(url, "POST", "/reset", {})
            begin = noted("http reset at cap:")
            same(f"{answer.status} {answer.text}"[: len(begin)], begin)
    finally:
        for connection in connections:
            connection.close()
        rpc("openenv/session/close", session_id=session)


REPLAYS: dict[str, tuple[str, str, Callable[[Report, Path, str], None]]] = {
    "http_seed_echo": ("recorded echo seed", "http shared", replay_http),
    "http_seed_coding": ("recorded coding seed", "http shared", code_over_http),
    "http_0.10_template_echo": ("echo", "http", replay_http),
    "ws_0.10_template_echo": ("echo", "ws", replay_ws),
    "ws_0.10_errors": ("trouble", "ws", replay_ws),
    "ws_0.10_coding": ("coding", "ws", code_over_ws),
    "capacity_and_sessions_0.10": ("recorded echo_mcp 8", "mcp + ws", full),
}
"""By the recording's name: the server it needs, its transport, and how it is played."""


def main() -> None:
    """Plays what there are servers for."""
    directory = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE.parents[2] / "shared" / "data" / "openenv"
    if not directory.is_dir():
        if skips := os.environ.get("HOTHOUSE_SKIPS"):
            with Path(skips).open("a", encoding="utf-8") as file:
                file.write("data: openenv recordings are not here\n")
        return
    servers = json.load(sys.stdin)
    for stem, (served, transport, replay) in REPLAYS.items():
        if served not in servers:
            continue
        report = Report(f"recording {stem}", transport)
        try:
            replay(report, directory / f"{stem}.txt", servers[served])
        except Exception:  # noqa: BLE001 - one recording that breaks does not hide the others
            with report.check("plays to its end"):
                raise


if __name__ == "__main__":
    main()
