# Generated from ../_async by generate_sync.py: edit that, then run it.
"""Orders: requests that make sandboxes. Each carries a key, so that it is carried out once however often it is sent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..bodies import encoded, new_id, target
from ..errors import CreateFailed, SandboxEnded
from ..retry import AnswerLate
from .connection import Connection

UNFINISHED = ("abandoned", "found_dead", "node_ended")
"""How a sandbox ends that its server had not finished when it was killed."""


def ordered(
    connection: Connection,
    path: str,
    body: Mapping[str, Any],
    *,
    wait_s: float | None,
    priority: int | None,
    undone: Callable[[Any], bool] = lambda _: False,
) -> Any:
    """Sends an order and gives the body of its answer; waits as long as it takes while the server is there.

    `wait_s` is how long it may wait for room, in seconds, before orders of a lower `priority`. Sent again after
    a lost answer it gets what the first has made, from the next server too. `undone` is true of an answer to a repeat
    that tells of what was undone because its server was killed half way; then it is ordered anew.
    """
    at = target(path, wait_s=wait_s, priority=priority)
    content = encoded(body)
    key, resent, unfinished = new_id("order"), False, 0
    while True:
        try:
            headers = {"idempotency-key": key}
            reply = connection.send("POST", at, content, headers=headers, wait_s=wait_s or 0.0)
            made = reply.json()
            if not undone(made):
                return made
            unfinished += 1
            if unfinished > connection.retries:
                raise CreateFailed("its server was killed before it was made, again and again")
            key = new_id("order")
        except AnswerLate:
            # Making it takes long, as a setup may, or the server is gone, and then this raises.
            connection.send("GET", "/healthz")
            resent = True
        except SandboxEnded as error:
            error.resent = resent = resent or error.resent
            ending = error.ending
            unfinished += 1
            if not resent or ending is None or ending.cause not in UNFINISHED or unfinished > connection.retries:
                raise
            # The server was killed before it was made. Nobody has it, so it is ordered anew.
            key = new_id("order")
