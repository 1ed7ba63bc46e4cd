# Generated from ../_async by generate_sync.py: edit that, then run it.
"""Contexts: live interpreters."""

from __future__ import annotations

import base64

import pytest

import hothouse
from hothouse import Outcome, Sandbox


def test_a_context_keeps_its_variables_and_gives_values(sandbox: Sandbox) -> None:
    with sandbox.python(env={"A": "1"}) as python:
        result = python.run("import os\nx = [1, 2.5, None, 'é']\nprint(os.environ['A'])")
        assert (result.ok, result.stdout, result.value, result.error) == (True, "1\n", None, None)
        assert python.eval("x") == [1, 2.5, None, "é"]
        assert python.eval("x.append(3)") is None
        result = python.run("x[9]")
        assert (result.ok, result.code) == (False, 1)
        assert result.error is not None
        assert (result.error.name, result.error.message) == ("IndexError", "list index out of range")
        assert "line 1, in <module>" in result.error.traceback
        with pytest.raises(hothouse.CodeFailed, match="IndexError"):
            python.eval("x[9]")
        with pytest.raises(hothouse.CodeFailed) as failed:
            python.run("while True: pass", timeout_s=0.2, check=True)
        assert failed.value.result.outcome == Outcome("timed_out")
        with pytest.raises(TypeError, match="object"):
            python.eval("object()")
        image = "class P:\n def _repr_png_(self): return b'\\x89PNG'\nP()"
        result = python.run(image)
        assert result.value is not None
        assert (result.value.data("image/png"), result.value.is_plain) == (b"\x89PNG", False)
        assert base64.b64decode(result.value.mime["image/png"]) == b"\x89PNG"
        assert (python.run("display(7)")).displays == [{"text/plain": "7"}]
        once = python.run("x.append(4)\nlen(x)", exec_id="c1")
        again = python.run("x.append(4)\nlen(x)", exec_id="c1")
        assert once.value == again.value
        assert again.replayed
        seen = [event for event in python.stream("print('a')\n'end'")]
        assert [type(event).__name__ for event in seen] == ["Started", "Output", "Finished"]
        last = seen[-1]
        assert isinstance(last, hothouse.Finished)
        assert last.result.value is not None
        assert last.result.value.json == "end"
        assert [info.context_id for info in sandbox.contexts()] == [python.id]
    assert sandbox.contexts() == []
    with pytest.raises(hothouse.ContextNotFound):
        python.run("1")


def test_a_fork_branches_and_a_reset_begins_anew(sandbox: Sandbox) -> None:
    with sandbox.python(imports=["json"], context_id="main") as python:
        with pytest.raises(hothouse.ContextExists):
            sandbox.python(context_id="main")
        python.run("path = []\nimport random")
        branch = python.fork(context_id="branch")
        more = python.forks(3)
        for number, context in enumerate([branch, *more, sandbox.context("main")]):
            context.run(f"path.append({number})")
        values = [context.eval("path, random.random()") for context in [python, branch, *more]]
        assert [value[0] for value in values] == [[4], [0], [1], [2], [3]]
        assert len({value[1] for value in values}) == 5
        info = branch.info()
        assert (info.state, info.forked_from) == ("idle", "main")
        branch.run("import os; os.kill(os.getpid(), 11)")
        info = branch.info()
        assert (info.state, info.reason) == ("ended", "signal 11 ended it")
        with pytest.raises(hothouse.ContextEnded, match="signal 11"):
            branch.run("path")
        branch.reset()
        with pytest.raises(hothouse.CodeFailed, match="NameError"):
            branch.eval("path")


def test_code_is_interrupted_and_what_cannot_be_is_said(sandbox: Sandbox) -> None:
    with sandbox.python() as python:
        stream = python.stream("print('begun', flush=True)\nimport time\ntime.sleep(600)")
        for event in stream:
            if isinstance(event, hothouse.Output):
                with pytest.raises(hothouse.ContextBusy):
                    python.run("1")
                with pytest.raises(hothouse.ContextBusy):
                    python.fork()
                python.interrupt()
        assert stream.result is not None
        assert stream.result.error is not None
        assert stream.result.error.name == "KeyboardInterrupt"
    with pytest.raises(hothouse.InvalidRequest, match="no_such_module"):
        sandbox.python(imports=["no_such_module"])
    with pytest.raises(hothouse.Unsupported, match="no python3"):
        sandbox.python(env={"PATH": "/nowhere"})
    with sandbox.python(memory_bytes=64 << 20) as small:
        with pytest.raises(hothouse.CodeFailed, match="MemoryError"):
            small.run("bytearray(200 << 20)", check=True)
        assert small.eval("1 + 1") == 2
