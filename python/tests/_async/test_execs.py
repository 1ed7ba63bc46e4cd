from __future__ import annotations

import pytest

import hothouse
from hothouse import AsyncSandbox, Outcome

GO = "while [ ! -e /tmp/go ]; do sleep 0.02; done"


async def test_a_command_runs_and_its_result_says_what_happened(sandbox: AsyncSandbox) -> None:
    result = await sandbox.run("echo out$A; echo err >&2; exit 3", env={"A": "1"})
    assert (result.stdout, result.stderr) == ("out1\n", "err\n")
    assert (result.outcome, result.code, result.ok) == (Outcome("exited", 3), 3, False)
    assert result.exec_id.startswith("ex-")
    assert not result.replayed
    assert result.usage.max_rss_bytes > 0
    assert 0 < result.duration_s < 30
    assert (await sandbox.run(["echo", "a  b"])).stdout == "a  b\n"
    assert (await sandbox.run("pwd", cwd="/usr")).stdout == "/usr\n"
    assert (await sandbox.run("id -u", user="0")).stdout == "0\n"


async def test_input_and_output_may_be_bytes_or_text(sandbox: AsyncSandbox) -> None:
    result = await sandbox.run(["cat"], stdin=b"\x00\xffb")
    assert result.stdout_bytes == b"\x00\xffb"
    assert result.stdout == "\x00\ufffdb"
    assert result.stderr_bytes == b""
    result = await sandbox.run(["cat"], stdin="gr€n\n")
    assert (result.stdout, result.stdout_bytes) == ("gr€n\n", "gr€n\n".encode())


async def test_every_end_is_a_result(sandbox: AsyncSandbox) -> None:
    result = await sandbox.run("echo early; sleep 60", timeout_s=0.2, grace_s=0.1)
    assert (result.outcome.kind, result.stdout, result.code) == ("timed_out", "early\n", None)
    result = await sandbox.run(["/no/such/program"])
    assert result.outcome.kind == "failed_to_start"
    assert "/no/such/program" in str(result.outcome)
    result = await sandbox.run("kill -KILL $$")
    assert result.outcome == Outcome("signalled", signal=9)
    result = await sandbox.run("seq 1 100000", output_limit_bytes=1000)
    assert result.truncated.stdout_dropped_bytes == 588_895 - 1000


async def test_check_raises_what_went_wrong(sandbox: AsyncSandbox) -> None:
    assert (await sandbox.run("true", check=True)).ok
    with pytest.raises(hothouse.ExecFailed, match="exited with 3: what a mess") as failed:
        await sandbox.run("echo what a mess >&2; exit 3", check=True)
    assert failed.value.result.code == 3
    with pytest.raises(hothouse.ExecFailed, match="timed out"):
        await sandbox.run("sleep 60", timeout_s=0.1, grace_s=0.1, check=True)


async def test_an_id_makes_a_repeat_safe(sandbox: AsyncSandbox) -> None:
    line = "echo x >> /tmp/count; cat /tmp/count"
    first = await sandbox.run(line, exec_id="once")
    again = await sandbox.run(line, exec_id="once")
    assert (first.stdout, first.replayed) == ("x\n", False)
    assert (again.stdout, again.replayed) == ("x\n", True)
    with pytest.raises(hothouse.ExecConflict):
        await sandbox.run("true", exec_id="once")


async def test_a_spawned_command_is_looked_up_fed_and_read_again(sandbox: AsyncSandbox) -> None:
    cat = await sandbox.spawn(["cat"], stdin_open=True, exec_id="cat")
    assert (await cat.status()).state == "running"
    await cat.write_stdin("hello ")
    with pytest.raises(TimeoutError):
        await cat.wait(timeout_s=0.05)
    await cat.write_stdin(b"world", close=True)
    assert (await cat.wait()).stdout == "hello world"
    status = await sandbox.exec("cat").status()
    assert (status.state, status.stdout_bytes) == ("finished", 11)
    assert status.result is not None
    piece = await cat.output(offset=6, max_bytes=3)
    assert (piece.data, piece.offset, piece.total, piece.ended) == (b"wor", 6, 11, True)
    assert (await cat.output("stderr")).data == b""
    with pytest.raises(hothouse.ExecFinished):
        await cat.write_stdin("late")
    with pytest.raises(hothouse.ExecFinished):
        await cat.signal("TERM")
    assert [status.exec_id for status in await sandbox.execs()] == ["cat"]
    with pytest.raises(hothouse.ExecNotFound):
        await sandbox.exec("nope").status()


async def test_signals_go_by_name_and_number(sandbox: AsyncSandbox) -> None:
    by_name = await sandbox.spawn(["sleep", "600"])
    await by_name.signal("SIGUSR1", target="leader")
    assert (await by_name.wait(30)).outcome == Outcome("signalled", signal=10)
    by_number = await sandbox.spawn(["sleep", "600"])
    await by_number.signal(9)
    assert (await by_number.wait(30)).outcome == Outcome("signalled", signal=9)


async def test_a_terminal_has_a_size(sandbox: AsyncSandbox) -> None:
    command = await sandbox.spawn(f"{GO}; stty size", pty=(24, 80))
    await command.resize(30, 100)
    await sandbox.files.write_bytes("/tmp/go", b"")
    assert (await command.wait(30)).stdout == "30 100\r\n"


async def test_a_shell_keeps_its_directory_and_variables(sandbox: AsyncSandbox) -> None:
    async with await sandbox.shell(env={"A": "1"}) as shell:
        assert (await shell.run("cd /tmp; B=$((A+1)); false")).code == 1
        assert (await shell.run("echo $PWD $A $B", check=True)).stdout == "/tmp 1 2\n"
        with pytest.raises(hothouse.ExecFailed):
            await shell.run("false", check=True)
        seen = [event async for event in shell.stream("echo a; echo b >&2")]
        assert [type(event).__name__ for event in seen] == ["Started", "Output", "Output", "Finished"]
        assert [info.shell_id for info in await sandbox.shells()] == [shell.id]
        once = await shell.run("echo once >> /tmp/n; cat /tmp/n", exec_id="s1")
        again = await shell.run("echo once >> /tmp/n; cat /tmp/n", exec_id="s1")
        assert (once.stdout, again.stdout, again.replayed) == ("once\n", "once\n", True)
    assert await sandbox.shells() == []
    with pytest.raises(hothouse.ShellNotFound):
        await shell.run("true")
    async with await sandbox.shell(shell_id="mine") as shell:
        with pytest.raises(hothouse.ShellExists):
            await sandbox.shell(shell_id="mine")
        # It is gone when the block ends, which is well.
        await shell.close()


async def test_events_come_in_order_and_live(sandbox: AsyncSandbox) -> None:
    line = f"echo one; {GO}; echo two >&2; echo thr€e; exit 7"
    outputs: list[tuple[str, str]] = []
    async with sandbox.stream(line) as events:
        async for event in events:
            if isinstance(event, hothouse.Started):
                assert not event.replayed
            elif isinstance(event, hothouse.Output):
                outputs.append((event.stream, event.text))
                # It waits for this file, so the first event came while it ran.
                await sandbox.files.write_bytes("/tmp/go", b"")
    assert outputs[0] == ("stdout", "one\n")
    assert sorted(outputs[1:]) == [("stderr", "two\n"), ("stdout", "thr€e\n")]
    assert events.result is not None
    assert events.result.code == 7


async def test_a_big_output_comes_whole_although_little_of_it_is_kept(sandbox: AsyncSandbox) -> None:
    events = sandbox.stream("seq 1 100000; printf '\\377'", output_limit_bytes=1000)
    pieces = [event.data async for event in events if isinstance(event, hothouse.Output)]
    assert b"".join(pieces) == b"".join(b"%d\n" % number for number in range(1, 100_001)) + b"\xff"


async def test_what_was_not_kept_is_announced(sandbox: AsyncSandbox) -> None:
    await sandbox.run("seq 1 100000", output_limit_bytes=1000, exec_id="short")
    seen = [event async for event in sandbox.exec("short").stream()]
    assert hothouse.Skipped("stdout", 588_895 - 1000) in seen
    part = [event async for event in sandbox.exec("short").stream(stdout_from=588_890)]
    assert b"".join(event.data for event in part if isinstance(event, hothouse.Output)) == b"0000\n"


async def test_leaving_a_stream_early_leaves_the_exec_running(sandbox: AsyncSandbox) -> None:
    async for event in sandbox.stream(f"echo one; {GO}; echo two", exec_id="left"):
        if isinstance(event, hothouse.Output):
            break
    left = sandbox.exec("left")
    assert (await left.status()).state == "running"
    await sandbox.files.write_bytes("/tmp/go", b"")
    assert (await left.wait(30)).stdout == "one\ntwo\n"


async def test_a_stream_that_cannot_begin_says_why(sandbox: AsyncSandbox) -> None:
    with pytest.raises(hothouse.InvalidRequest) as wrong:
        async for _ in sandbox.stream([]):
            pass
    assert wrong.value.field == "argv"
    with pytest.raises(hothouse.ExecNotFound):
        async for _ in sandbox.exec("nope").stream():
            pass
