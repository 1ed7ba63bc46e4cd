"""The server is killed while a command runs, and started again: the caller notices nothing but the time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest

import hothouse
from hothouse import AsyncClient, Client, ExecResult, Sandbox

from .patience import PATIENCE_S, until
from .server import Server

LINE = "echo ran >> /tmp/count; while [ ! -e /tmp/go ]; do sleep 0.02; done; cat /tmp/count"
T = TypeVar("T")


def run(server: Server, sandbox: Sandbox) -> ExecResult:
    return sandbox.run(LINE, exec_id="long")


def run_asynchronously(server: Server, sandbox: Sandbox) -> ExecResult:
    async def main() -> ExecResult:
        async with AsyncClient(server.url) as client:
            return await (await client.sandbox(sandbox.id)).run(LINE, exec_id="long")

    return asyncio.run(main())


def run_in_a_shell(server: Server, sandbox: Sandbox) -> ExecResult:
    return sandbox.shell(shell_id="sh").run(LINE, exec_id="long")


def run_in_a_context(server: Server, sandbox: Sandbox) -> ExecResult:
    code = f"import subprocess\nsubprocess.run({LINE!r}, shell=True)\nopen('/tmp/count').read()"
    return sandbox.python(context_id="py").run(code, exec_id="long")


def wait(server: Server, sandbox: Sandbox) -> ExecResult:
    return sandbox.spawn(LINE, exec_id="long").wait()


def while_killed(server: Server, call: Callable[[Server, Sandbox], T]) -> tuple[T, str]:
    """What the call gives although the server is killed and started again while it runs, and how often it ran."""
    with Client(server.url) as client, client.create() as sandbox, ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(call, server, sandbox)
        until("the command to run", lambda: waiting.done() or sandbox.files.exists("/tmp/count"))
        server.kill()
        server.start()
        assert not waiting.done()
        sandbox.files.write_bytes("/tmp/go", b"")
        return waiting.result(PATIENCE_S), sandbox.files.read_text("/tmp/count")


@pytest.mark.parametrize("call", [run, run_asynchronously, wait])
def test_a_command_comes_back_with_one_execution(
    own_server: Server, call: Callable[[Server, Sandbox], ExecResult]
) -> None:
    result, count = while_killed(own_server, call)
    assert count == "ran\n"
    assert (result.ok, result.stdout, result.replayed) == (True, "ran\n", True)


def test_a_followed_command_goes_on_without_gap_or_repeat(own_server: Server) -> None:
    seen: list[str] = []

    def follow_and_note(server: Server, sandbox: Sandbox) -> ExecResult:
        with sandbox.stream(f"echo first; {LINE}; echo last", exec_id="long") as events:
            for event in events:
                seen.append(event.text if isinstance(event, hothouse.Output) else type(event).__name__)
        assert events.result is not None
        return events.result

    result, count = while_killed(own_server, follow_and_note)
    assert (result.ok, count) == (True, "ran\n")
    assert (seen[0], "".join(seen[1:-1]), seen[-1]) == ("Started", "first\nran\nlast\n", "Finished")


def test_a_shells_command_comes_back_too(own_server: Server) -> None:
    result, count = while_killed(own_server, run_in_a_shell)
    assert (result.ok, count) == (True, "ran\n")


def test_code_of_a_context_comes_back_too(own_server: Server) -> None:
    result, count = while_killed(own_server, run_in_a_context)
    assert (result.ok, result.stdout, count) == (True, "ran\n", "ran\n")
    assert result.value is not None
    assert result.value.json == "ran\n"


def test_a_server_that_stays_away_is_said(own_server: Server) -> None:
    with Client(own_server.url, retries=1) as client:
        sandbox = client.create()
        own_server.kill()
        with pytest.raises(hothouse.ConnectionFailed):
            sandbox.run("true")
        own_server.start()
        assert sandbox.run("echo back").stdout == "back\n"
        sandbox.delete()


def test_a_group_that_its_server_made_half_of_is_made_anew(own_server: Server) -> None:
    with Client(own_server.url) as client, ThreadPoolExecutor(1) as thread:
        call = thread.submit(lambda: client.group(24))
        with client.events(after="0") as events:
            created = next(iter(events))
        assert isinstance(created, hothouse.Event)
        own_server.kill()
        own_server.start()
        with call.result(PATIENCE_S) as group:
            assert len(group) == 24
            assert sorted(sandbox.id for sandbox in group) == [info.id for info in client.sandboxes()]
