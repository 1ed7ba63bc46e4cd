"""Contexts: live interpreters."""

from __future__ import annotations

import base64

import pytest

import hothouse
from hothouse import AsyncSandbox, Outcome


async def test_a_context_keeps_its_variables_and_gives_values(sandbox: AsyncSandbox) -> None:
    async with await sandbox.python(env={"A": "1"}) as python:
        result = await python.run("import os\nx = [1, 2.5, None, 'é']\nprint(os.environ['A'])")
        assert (result.ok, result.stdout, result.value, result.error) == (True, "1\n", None, None)
        assert await python.eval("x") == [1, 2.5, None, "é"]
        assert await python.eval("x.append(3)") is None
        result = await python.run("x[9]")
        assert (result.ok, result.code) == (False, 1)
        assert result.error is not None
        assert (result.error.name, result.error.message) == ("IndexError", "list index out of range")
        assert "line 1, in <module>" in result.error.traceback
        with pytest.raises(hothouse.CodeFailed, match="IndexError"):
            await python.eval("x[9]")
        with pytest.raises(hothouse.CodeFailed) as failed:
            await python.run("while True: pass", timeout_s=0.2, check=True)
        assert failed.value.result.outcome == Outcome("timed_out")
        with pytest.raises(TypeError, match="object"):
            await python.eval("object()")
        image = "class P:\n def _repr_png_(self): return b'\\x89PNG'\nP()"
        result = await python.run(image)
        assert result.value is not None
        assert (result.value.data("image/png"), result.value.is_plain) == (b"\x89PNG", False)
        assert base64.b64decode(result.value.mime["image/png"]) == b"\x89PNG"
        assert (await python.run("display(7)")).displays == [{"text/plain": "7"}]
        once = await python.run("x.append(4)\nlen(x)", exec_id="c1")
        again = await python.run("x.append(4)\nlen(x)", exec_id="c1")
        assert once.value == again.value
        assert again.replayed
        seen = [event async for event in python.stream("print('a')\n'end'")]
        assert [type(event).__name__ for event in seen] == ["Started", "Output", "Finished"]
        last = seen[-1]
        assert isinstance(last, hothouse.Finished)
        assert last.result.value is not None
        assert last.result.value.json == "end"
        assert [info.context_id for info in await sandbox.contexts()] == [python.id]
    assert await sandbox.contexts() == []
    with pytest.raises(hothouse.ContextNotFound):
        await python.run("1")


async def test_a_fork_branches_and_a_reset_begins_anew(sandbox: AsyncSandbox) -> None:
    async with await sandbox.python(imports=["json"], context_id="main") as python:
        with pytest.raises(hothouse.ContextExists):
            await sandbox.python(context_id="main")
        await python.run("path = []\nimport random")
        branch = await python.fork(context_id="branch")
        more = await python.forks(3)
        for number, context in enumerate([branch, *more, sandbox.context("main")]):
            await context.run(f"path.append({number})")
        values = [await context.eval("path, random.random()") for context in [python, branch, *more]]
        assert [value[0] for value in values] == [[4], [0], [1], [2], [3]]
        assert len({value[1] for value in values}) == 5
        info = await branch.info()
        assert (info.state, info.forked_from) == ("idle", "main")
        await branch.run("import os; os.kill(os.getpid(), 11)")
        info = await branch.info()
        assert (info.state, info.reason) == ("ended", "signal 11 ended it")
        with pytest.raises(hothouse.ContextEnded, match="signal 11"):
            await branch.run("path")
        await branch.reset()
        with pytest.raises(hothouse.CodeFailed, match="NameError"):
            await branch.eval("path")


async def test_code_is_interrupted_and_what_cannot_be_is_said(sandbox: AsyncSandbox) -> None:
    async with await sandbox.python() as python:
        stream = python.stream("print('begun', flush=True)\nimport time\ntime.sleep(600)")
        async for event in stream:
            if isinstance(event, hothouse.Output):
                with pytest.raises(hothouse.ContextBusy):
                    await python.run("1")
                with pytest.raises(hothouse.ContextBusy):
                    await python.fork()
                await python.interrupt()
        assert stream.result is not None
        assert stream.result.error is not None
        assert stream.result.error.name == "KeyboardInterrupt"
    with pytest.raises(hothouse.InvalidRequest, match="no_such_module"):
        await sandbox.python(imports=["no_such_module"])
    with pytest.raises(hothouse.Unsupported, match="no python3"):
        await sandbox.python(env={"PATH": "/nowhere"})
    async with await sandbox.python(memory_bytes=64 << 20) as small:
        with pytest.raises(hothouse.CodeFailed, match="MemoryError"):
            await small.run("bytearray(200 << 20)", check=True)
        assert await small.eval("1 + 1") == 2
