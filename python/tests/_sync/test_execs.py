# Generated from ../_async by generate_sync.py: edit that, then run it.
from __future__ import annotations

import pytest

import hothouse
from hothouse import Outcome, Sandbox

GO = "while [ ! -e /tmp/go ]; do sleep 0.02; done"


def test_a_command_runs_and_its_result_says_what_happened(sandbox: Sandbox) -> None:
    result = sandbox.run("echo out$A; echo err >&2; exit 3", env={"A": "1"})
    assert (result.stdout, result.stderr) == ("out1\n", "err\n")
    assert (result.outcome, result.code, result.ok) == (Outcome("exited", 3), 3, False)
    assert result.exec_id.startswith("ex-")
    assert not result.replayed
    assert result.usage.max_rss_bytes > 0
    assert 0 < result.duration_s < 30
    assert (sandbox.run(["echo", "a  b"])).stdout == "a  b\n"
    assert (sandbox.run("pwd", cwd="/usr")).stdout == "/usr\n"
    assert (sandbox.run("id -u", user="0")).stdout == "0\n"


def test_input_and_output_may_be_bytes_or_text(sandbox: Sandbox) -> None:
    result = sandbox.run(["cat"], stdin=b"\x00\xffb")
    assert result.stdout_bytes == b"\x00\xffb"
    assert result.stdout == "\x00\ufffdb"
    assert result.stderr_bytes == b""
    result = sandbox.run(["cat"], stdin="gr€n\n")
    assert (result.stdout, result.stdout_bytes) == ("gr€n\n", "gr€n\n".encode())


def test_every_end_is_a_result(sandbox: Sandbox) -> None:
    result = sandbox.run("echo early; sleep 60", timeout_s=0.2, grace_s=0.1)
    assert (result.outcome.kind, result.stdout, result.code) == ("timed_out", "early\n", None)
    result = sandbox.run(["/no/such/program"])
    assert result.outcome.kind == "failed_to_start"
    assert "/no/such/program" in str(result.outcome)
    result = sandbox.run("kill -KILL $$")
    assert result.outcome == Outcome("signalled", signal=9)
    result = sandbox.run("seq 1 100000", output_limit_bytes=1000)
    assert result.truncated.stdout_dropped_bytes == 588_895 - 1000


def test_check_raises_what_went_wrong(sandbox: Sandbox) -> None:
    assert (sandbox.run("true", check=True)).ok
    with pytest.raises(hothouse.ExecFailed, match="exited with 3: what a mess") as failed:
        sandbox.run("echo what a mess >&2; exit 3", check=True)
    assert failed.value.result.code == 3
    with pytest.raises(hothouse.ExecFailed, match="timed out"):
        sandbox.run("sleep 60", timeout_s=0.1, grace_s=0.1, check=True)


def test_an_id_makes_a_repeat_safe(sandbox: Sandbox) -> None:
    line = "echo x >> /tmp/count; cat /tmp/count"
    first = sandbox.run(line, exec_id="once")
    again = sandbox.run(line, exec_id="once")
    assert (first.stdout, first.replayed) == ("x\n", False)
    assert (again.stdout, again.replayed) == ("x\n", True)
    with pytest.raises(hothouse.ExecConflict):
        sandbox.run("true", exec_id="once")


def test_a_spawned_command_is_looked_up_fed_and_read_again(sandbox: Sandbox) -> None:
    cat = sandbox.spawn(["cat"], stdin_open=True, exec_id="cat")
    assert (cat.status()).state == "running"
    cat.write_stdin("hello ")
    with pytest.raises(TimeoutError):
        cat.wait(timeout_s=0.05)
    cat.write_stdin(b"world", close=True)
    assert (cat.wait()).stdout == "hello world"
    status = sandbox.exec("cat").status()
    assert (status.state, status.stdout_bytes) == ("finished", 11)
    assert status.result is not None
    piece = cat.output(offset=6, max_bytes=3)
    assert (piece.data, piece.offset, piece.total, piece.ended) == (b"wor", 6, 11, True)
    assert (cat.output("stderr")).data == b""
    with pytest.raises(hothouse.ExecFinished):
        cat.write_stdin("late")
    with pytest.raises(hothouse.ExecFinished):
        cat.signal("TERM")
    assert [status.exec_id for status in sandbox.execs()] == ["cat"]
    with pytest.raises(hothouse.ExecNotFound):
        sandbox.exec("nope").status()


def test_signals_go_by_name_and_number(sandbox: Sandbox) -> None:
    by_name = sandbox.spawn(["sleep", "600"])
    by_name.signal("SIGUSR1", target="leader")
    assert (by_name.wait(30)).outcome == Outcome("signalled", signal=10)
    by_number = sandbox.spawn(["sleep", "600"])
    by_number.signal(9)
    assert (by_number.wait(30)).outcome == Outcome("signalled", signal=9)


def test_a_terminal_has_a_size(sandbox: Sandbox) -> None:
    command = sandbox.spawn(f"{GO}; stty size", pty=(24, 80))
    command.resize(30, 100)
    sandbox.files.write_bytes("/tmp/go", b"")
    assert (command.wait(30)).stdout == "30 100\r\n"


def test_a_shell_keeps_its_directory_and_variables(sandbox: Sandbox) -> None:
    with sandbox.shell(env={"A": "1"}) as shell:
        assert (shell.run("cd /tmp; B=$((A+1)); false")).code == 1
        assert (shell.run("echo $PWD $A $B", check=True)).stdout == "/tmp 1 2\n"
        with pytest.raises(hothouse.ExecFailed):
            shell.run("false", check=True)
        seen = [event for event in shell.stream("echo a; echo b >&2")]
        assert [type(event).__name__ for event in seen] == ["Started", "Output", "Output", "Finished"]
        assert [info.shell_id for info in sandbox.shells()] == [shell.id]
        once = shell.run("echo once >> /tmp/n; cat /tmp/n", exec_id="s1")
        again = shell.run("echo once >> /tmp/n; cat /tmp/n", exec_id="s1")
        assert (once.stdout, again.stdout, again.replayed) == ("once\n", "once\n", True)
    assert sandbox.shells() == []
    with pytest.raises(hothouse.ShellNotFound):
        shell.run("true")
    with sandbox.shell(shell_id="mine") as shell:
        with pytest.raises(hothouse.ShellExists):
            sandbox.shell(shell_id="mine")
        # It is gone when the block ends, which is well.
        shell.close()


def test_events_come_in_order_and_live(sandbox: Sandbox) -> None:
    line = f"echo one; {GO}; echo two >&2; echo thr€e; exit 7"
    outputs: list[tuple[str, str]] = []
    with sandbox.stream(line) as events:
        for event in events:
            if isinstance(event, hothouse.Started):
                assert not event.replayed
            elif isinstance(event, hothouse.Output):
                outputs.append((event.stream, event.text))
                # It waits for this file, so the first event came while it ran.
                sandbox.files.write_bytes("/tmp/go", b"")
    assert outputs[0] == ("stdout", "one\n")
    assert sorted(outputs[1:]) == [("stderr", "two\n"), ("stdout", "thr€e\n")]
    assert events.result is not None
    assert events.result.code == 7


def test_a_big_output_comes_whole_although_little_of_it_is_kept(sandbox: Sandbox) -> None:
    events = sandbox.stream("seq 1 100000; printf '\\377'", output_limit_bytes=1000)
    pieces = [event.data for event in events if isinstance(event, hothouse.Output)]
    assert b"".join(pieces) == b"".join(b"%d\n" % number for number in range(1, 100_001)) + b"\xff"


def test_what_was_not_kept_is_announced(sandbox: Sandbox) -> None:
    sandbox.run("seq 1 100000", output_limit_bytes=1000, exec_id="short")
    seen = [event for event in sandbox.exec("short").stream()]
    assert hothouse.Skipped("stdout", 588_895 - 1000) in seen
    part = [event for event in sandbox.exec("short").stream(stdout_from=588_890)]
    assert b"".join(event.data for event in part if isinstance(event, hothouse.Output)) == b"0000\n"


def test_leaving_a_stream_early_leaves_the_exec_running(sandbox: Sandbox) -> None:
    for event in sandbox.stream(f"echo one; {GO}; echo two", exec_id="left"):
        if isinstance(event, hothouse.Output):
            break
    left = sandbox.exec("left")
    assert (left.status()).state == "running"
    sandbox.files.write_bytes("/tmp/go", b"")
    assert (left.wait(30)).stdout == "one\ntwo\n"


def test_a_stream_that_cannot_begin_says_why(sandbox: Sandbox) -> None:
    with pytest.raises(hothouse.InvalidRequest) as wrong:
        for _ in sandbox.stream([]):
            pass
    assert wrong.value.field == "argv"
    with pytest.raises(hothouse.ExecNotFound):
        for _ in sandbox.exec("nope").stream():
            pass
