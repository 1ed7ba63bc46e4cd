"""Rules of the house: one source for both halves, small files, nouns for names."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import hothouse

HERE = Path(__file__).resolve().parents[1]
PAIRS = [
    "Client", "Context", "EventStream", "Exec", "ExecStream", "Files", "Group", "Groups", "Pool", "Pools", "Sandbox",
    "Shell", "Templates",
]  # fmt: skip


def test_the_blocking_half_is_what_the_asynchronous_one_generates() -> None:
    done = subprocess.run(
        [sys.executable, str(HERE / "generate_sync.py"), "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_both_halves_have_the_same_methods_and_arguments() -> None:
    for name in PAIRS:
        blocking, asynchronous = getattr(hothouse, name), getattr(hothouse, f"Async{name}")
        assert public(blocking) == public(asynchronous), name


def test_what_makes_sandboxes_takes_the_same_arguments() -> None:
    def taken(function: Callable[..., object]) -> set[str]:
        return set(inspect.signature(function).parameters) - {"self"}

    wanted = taken(hothouse.Client.create)
    assert taken(hothouse.Sandbox.create) == wanted | {"client"}
    assert taken(hothouse.Sandbox.local) == wanted - {"id"}
    pool = taken(hothouse.Pool.claim)
    assert taken(hothouse.Client.group) == wanted | pool | {"count", "pool", "fork_of", "on_failure"}
    assert taken(hothouse.Templates.put) == wanted - {"id", "secrets", "wait_s", "priority"} | {"name", "setup"}


def public(kind: type) -> dict[str, list[str]]:
    members = inspect.getmembers(kind, lambda member: callable(member) or isinstance(member, property))
    shown = [(name, member) for name, member in members if not name.startswith("_")]
    return {name: list(inspect.signature(member).parameters) if callable(member) else [] for name, member in shown}


def test_the_blocking_half_waits_for_nothing_asynchronous() -> None:
    for path in [*HERE.glob("src/hothouse/_sync/*.py"), *HERE.glob("tests/_sync/*.py")]:
        # The first line says what made it.
        _, _, text = path.read_text("utf-8").partition("\n")
        assert not re.search(r"\b(async|await|asyncio|anyio|_async)\b|\bAsync[A-Z]", text), path


def test_files_are_small_and_named_after_nouns() -> None:
    files = [path for part in ("src", "tests", "bench") for path in (HERE / part).rglob("*.py")]
    assert len(files) > 30
    for path in files:
        assert len(path.read_text("utf-8").splitlines()) < 500, path
        assert path.stem not in {"util", "utils", "common", "helper", "helpers", "misc"}, path


def test_all_that_is_exported_is_there_and_documented() -> None:
    for name in hothouse.__all__:
        value = getattr(hothouse, name)
        assert not isinstance(value, type) or inspect.getdoc(value), name
