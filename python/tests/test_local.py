"""The private server: it starts by itself, and it ends with the process that started it, however that ends."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import hothouse
from hothouse import local

from .patience import PATIENCE_S, until
from .server import Server

SHOW = """
import os, hothouse
from hothouse import local
sandbox = hothouse.Sandbox.local()
print(sandbox.run("echo works").stdout.strip(), local.private_server().pid, local.private_server().home, flush=True)
"""


def program(text: str, **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", text],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **variables},
        text=True,
    )


def said(running: subprocess.Popen[str]) -> tuple[str, int, Path]:
    assert running.stdout is not None
    line = running.stdout.readline()
    assert line, running.communicate(timeout=PATIENCE_S)[1]
    works, pid, home = line.split()
    return works, int(pid), Path(home)


def gone(pid: int, home: Path) -> bool:
    return not Path(f"/proc/{pid}").exists() and not home.exists()


def test_three_lines_work_and_leave_nothing_behind() -> None:
    running = program(SHOW)
    works, pid, home = said(running)
    assert works == "works"
    assert running.communicate(timeout=PATIENCE_S) == ("", "")
    assert running.returncode == 0
    # It was waited for, so there is nothing left to wait for.
    assert gone(pid, home)


def test_the_server_ends_when_python_is_killed() -> None:
    running = program(SHOW + "input()")
    _, pid, home = said(running)
    assert home.exists()
    running.kill()
    running.communicate(timeout=PATIENCE_S)
    until("the server to end", lambda: gone(pid, home))


def test_a_command_that_runs_does_not_hold_up_the_end() -> None:
    text = SHOW + "import threading\nthreading.Thread(target=sandbox.run, args=('sleep 600',), daemon=True).start()\n"
    running = program(text + "while not sandbox.execs()[1:]: pass\n")
    _, pid, home = said(running)
    running.communicate(timeout=PATIENCE_S)
    assert gone(pid, home)


def test_a_forked_copy_leaves_the_server_alone() -> None:
    text = SHOW + "import sys\nif os.fork() == 0: sys.exit(0)\nos.wait()\nprint(sandbox.run('echo still').stdout)"
    running = program(text)
    _, pid, home = said(running)
    out, err = running.communicate(timeout=PATIENCE_S)
    assert (out.strip(), err) == ("still", "")
    assert gone(pid, home)


def test_the_environments_server_is_not_taken_for_the_private_one(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOTHOUSE_SERVER", server.url)
    with hothouse.Client() as named, hothouse.Client.local() as private:
        assert named.base_url == server.url
        assert private.base_url is None
        private.health()
        assert private.base_url not in (None, server.url)
    monkeypatch.delenv("HOTHOUSE_SERVER")
    with hothouse.Client() as default:
        default.health()
        assert default.base_url == private.base_url


def test_threads_that_start_at_once_share_one() -> None:
    with ThreadPoolExecutor(8) as threads:
        servers = list(threads.map(lambda _: local.private_server(), range(16)))
    assert len({server.url for server in servers}) == 1


def test_one_that_was_killed_is_followed_by_another() -> None:
    first = local.private_server()
    assert first.pid is not None
    with hothouse.Client.local() as client:
        # Sandboxes outlive their server; these have nobody left who could ask for them.
        client.create().spawn(["sleep", "86399"])
    assert lives("86399")
    os.kill(first.pid, 9)
    until("its death to show", lambda: not first.alive)
    second = local.private_server()
    assert second.url != first.url
    with hothouse.Sandbox.local() as sandbox:
        assert sandbox.run("echo new").stdout == "new\n"
    assert not lives("86399")
    assert not first.home.exists()


def lives(argument: str) -> bool:
    """True when some process of this machine has this argument."""
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            arguments = (directory / "cmdline").read_bytes()
        except OSError:
            # It ended while this looked.
            continue
        if argument.encode() in arguments.split(b"\0"):
            return True
    return False


def test_its_log_does_not_grow_with_what_it_is_asked() -> None:
    with hothouse.Sandbox.local() as sandbox:
        log = local.private_server().home / "log"
        before = log.stat().st_size
        for _ in range(10):
            sandbox.run(["true"], check=True)
        assert log.stat().st_size == before


def test_a_program_that_does_not_start_is_shown_with_what_it_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = tmp_path / "hothouse"
    wrong.write_text("#!/bin/sh\necho it cannot be >&2\nexit 3\n")
    wrong.chmod(0o755)
    monkeypatch.setenv("HOTHOUSE_BINARY", str(wrong))
    with pytest.raises(hothouse.LocalServerFailed, match="it cannot be"):
        local.LocalServer()
    wrong.write_text("#!/bin/sh\necho no JSON\nexec sleep 600\n")
    with pytest.raises(hothouse.LocalServerFailed, match="it said nothing"):
        local.LocalServer()


def test_the_program_is_found_by_variable_path_or_place(
    binary: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert local.binary() == binary
    monkeypatch.setenv("HOTHOUSE_BINARY", str(tmp_path / "nope"))
    with pytest.raises(hothouse.LocalServerFailed, match="nope"):
        local.binary()
    monkeypatch.delenv("HOTHOUSE_BINARY")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(hothouse.LocalServerFailed, match="HOTHOUSE_SERVER"):
        local.binary()
    (tmp_path / "hothouse").symlink_to(binary)
    assert local.binary() == str(tmp_path / "hothouse")
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(local, "__file__", str(tmp_path / "package" / "local.py"))
    bundled = tmp_path / "package" / "bin" / "hothouse"
    bundled.parent.mkdir(parents=True)
    bundled.symlink_to(binary)
    assert local.binary() == str(bundled)
