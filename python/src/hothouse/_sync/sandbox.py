# Generated from ../_async by generate_sync.py: edit that, then run it.
"""One sandbox: run commands in it, move files, freeze it, delete it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import httpx

from ..bodies import Command, claim_body, encoded, exec_body, given, new_id, segment
from ..errors import ContextExists, ExecFailed, SandboxEnded, SandboxNotFound, ShellExists, SnapshotExists
from ..shapes.context import ContextInfo, context_of
from ..shapes.exec import ExecResult, ExecStatus, status_of
from ..shapes.lease import Lease
from ..shapes.sandbox import SandboxInfo, ShellInfo, info_of, shell_of
from ..shapes.snapshot import SnapshotInfo, snapshot_of
from ..shapes.stats import SandboxStats, sandbox_stats_of
from .connection import Connection
from .contexts import Context
from .execs import Exec, run_to_end
from .files import Files
from .orders import ordered
from .shells import Shell
from .stream import ExecStream
from .trees import Trees

if TYPE_CHECKING:
    from .client import Client


class Sandbox(Trees):
    """A sandbox of a server. As a context manager it is deleted at the end of the block.

    All methods raise `SandboxNotFound`, `SandboxEnded`, `SandboxDead` and `SandboxFrozen` where that is so, and
    `ConnectionFailed` when the server cannot be reached.
    """

    def __init__(self, connection: Connection, info: SandboxInfo, own: Client | None) -> None:
        """For the client; `own` is a client that this sandbox alone uses and closes."""
        super().__init__(connection, f"/v1/sandboxes/{segment(info.id)}")
        self._own = own
        self._exec_url: httpx.URL = connection.url(f"{self._path}/exec")
        self.id = info.id
        self.info = info
        """What the server said last: when it was made, and after `refresh()`, `freeze()` and `thaw()`."""
        self.files = Files(connection, self._path)
        """Its files: read, write, list, …"""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.id!r})"

    @classmethod
    def create(
        cls,
        *,
        client: Client | None = None,
        id: str | None = None,
        image: str | None = None,
        layers: Iterable[str] = (),
        cpus: float | None = None,
        memory_bytes: int | None = None,
        pids: int | None = None,
        disk_bytes: int | None = None,
        disk_inodes: int | None = None,
        env: Mapping[str, str] | None = None,
        workdir: str | None = None,
        labels: Mapping[str, str] | None = None,
        lease: Lease | None = None,
        secrets: Mapping[str, str] | None = None,
        needs: Mapping[str, float] | None = None,
        wait_s: float | None = None,
        priority: int | None = None,
    ) -> Sandbox:
        """Makes a sandbox, by default on the server of `HOTHOUSE_SERVER`, else on a private one of this process.

        The arguments are those of `Client.create`.
        """
        return cls._of(
            client,
            None,
            id=id,
            image=image,
            layers=layers,
            cpus=cpus,
            memory_bytes=memory_bytes,
            pids=pids,
            disk_bytes=disk_bytes,
            disk_inodes=disk_inodes,
            env=env,
            workdir=workdir,
            labels=labels,
            lease=lease,
            secrets=secrets,
            needs=needs,
            wait_s=wait_s,
            priority=priority,
        )

    @classmethod
    def local(
        cls,
        *,
        image: str | None = None,
        layers: Iterable[str] = (),
        cpus: float | None = None,
        memory_bytes: int | None = None,
        pids: int | None = None,
        disk_bytes: int | None = None,
        disk_inodes: int | None = None,
        env: Mapping[str, str] | None = None,
        workdir: str | None = None,
        labels: Mapping[str, str] | None = None,
        lease: Lease | None = None,
        secrets: Mapping[str, str] | None = None,
        needs: Mapping[str, float] | None = None,
        wait_s: float | None = None,
        priority: int | None = None,
    ) -> Sandbox:
        """Makes a sandbox on a private server, which this process starts once and which ends with it.

        Raises `LocalServerFailed` when there is no program `hothouse` or it does not start.
        """
        from .client import Client

        return cls._of(
            None,
            Client.local(),
            image=image,
            layers=layers,
            cpus=cpus,
            memory_bytes=memory_bytes,
            pids=pids,
            disk_bytes=disk_bytes,
            disk_inodes=disk_inodes,
            env=env,
            workdir=workdir,
            labels=labels,
            lease=lease,
            secrets=secrets,
            needs=needs,
            wait_s=wait_s,
            priority=priority,
        )

    @classmethod
    def connect(cls, id: str, *, client: Client | None = None) -> Sandbox:
        """Finds a sandbox by its id. Raises `SandboxNotFound`, `SandboxEnded`."""
        from .client import Client

        own = Client() if client is None else None
        used = client or own
        assert used is not None
        try:
            return used.adopt(id, own)
        except BaseException:
            if own is not None:
                own.close()
            raise

    @classmethod
    def _of(cls, client: Client | None, own: Client | None, **spec: Any) -> Sandbox:
        from .client import Client

        if client is not None:
            return client.create(**spec)
        own = own or Client()
        try:
            sandbox = own.create(**spec)
        except BaseException:
            own.close()
            raise
        sandbox._own = own
        return sandbox

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.delete()
        except SandboxNotFound:
            # Somebody deleted it so long ago that it is forgotten; it is gone all the same.
            return

    def run(
        self,
        command: Command,
        *,
        env: Mapping[str, str] | None = None,
        secrets: Iterable[str] = (),
        cwd: str | None = None,
        user: str | None = None,
        stdin: str | bytes | None = None,
        timeout_s: float | None = None,
        grace_s: float | None = None,
        output_limit_bytes: int | None = None,
        exec_id: str | None = None,
        check: bool = False,
    ) -> ExecResult:
        """Runs a command and waits for its end. A string is a line for `/bin/sh -c`, a list a program with arguments.

        After `timeout_s` seconds (none when None) its whole process tree gets TERM, and KILL `grace_s` (2) later. Of
        each output `output_limit_bytes` are kept (1 MiB; at most 16 MiB): half from its start, half from its end.
        `user` is a name or number in the sandbox, root when None. `secrets` names those of the sandbox's secrets that
        the command gets as variables.

        The command runs once, even when the connection breaks and the server is started again meanwhile: it carries
        an id (`exec_id`, or one made here), by which the server knows it again. However it ends is a result;
        with `check=True` all but exit status 0 raises `ExecFailed`. Leaving early (an interrupt, a cancelled task)
        does not end the command; `timeout_s` does.
        """
        body = exec_body(
            command,
            exec_id or new_id("ex"),
            env=env,
            secrets=secrets,
            cwd=cwd,
            user=user,
            stdin=stdin,
            timeout_s=timeout_s,
            grace_s=grace_s,
            output_limit_bytes=output_limit_bytes,
        )
        lookup = f"{self._path}/execs/{segment(body['exec_id'])}"
        result = run_to_end(self._connection, self._exec_url, body, lookup)
        if check and not result.ok:
            raise ExecFailed(result)
        return result

    def stream(
        self,
        command: Command,
        *,
        env: Mapping[str, str] | None = None,
        secrets: Iterable[str] = (),
        cwd: str | None = None,
        user: str | None = None,
        stdin: str | bytes | None = None,
        timeout_s: float | None = None,
        grace_s: float | None = None,
        output_limit_bytes: int | None = None,
        exec_id: str | None = None,
    ) -> ExecStream:
        """Runs a command and gives what happens as it happens: see `ExecStream`. Arguments are those of `run`.

        It is started by the first step of the iteration.
        """
        body = exec_body(
            command,
            exec_id or new_id("ex"),
            env=env,
            secrets=secrets,
            cwd=cwd,
            user=user,
            stdin=stdin,
            timeout_s=timeout_s,
            grace_s=grace_s,
            output_limit_bytes=output_limit_bytes,
        )
        follow = f"{self._path}/execs/{segment(body['exec_id'])}/stream"
        return ExecStream(self._connection, follow, start=(f"{self._path}/exec?stream=true", encoded(body)))

    def spawn(
        self,
        command: Command,
        *,
        env: Mapping[str, str] | None = None,
        secrets: Iterable[str] = (),
        cwd: str | None = None,
        user: str | None = None,
        stdin: str | bytes | None = None,
        stdin_open: bool = False,
        pty: tuple[int, int] | None = None,
        timeout_s: float | None = None,
        grace_s: float | None = None,
        output_limit_bytes: int | None = None,
        exec_id: str | None = None,
    ) -> Exec:
        """Starts a command and returns as soon as it runs. Arguments are those of `run`, and two more.

        `stdin_open` keeps standard input open for `Exec.write_stdin`; `pty` runs it on a terminal of so many
        lines and characters, whose output is all `stdout`.
        """
        body = exec_body(
            command,
            exec_id or new_id("ex"),
            env=env,
            secrets=secrets,
            cwd=cwd,
            user=user,
            stdin=stdin,
            timeout_s=timeout_s,
            grace_s=grace_s,
            output_limit_bytes=output_limit_bytes,
        )
        body["detach"] = True
        if stdin_open:
            body["stdin_open"] = True
        if pty is not None:
            body["pty"] = {"rows": pty[0], "cols": pty[1]}
        self._connection.send("POST", self._exec_url, encoded(body))
        return self.exec(body["exec_id"])

    def exec(self, exec_id: str) -> Exec:
        """The exec with this id, of this or an earlier process. The server is not asked."""
        return Exec(self._connection, self._path, exec_id)

    def execs(self) -> list[ExecStatus]:
        """The execs that the sandbox remembers (the last 1,024), oldest first, without output."""
        reply = self._connection.send("GET", f"{self._path}/execs")
        return [status_of(item) for item in reply.json()["items"]]

    def shell(
        self,
        *,
        env: Mapping[str, str] | None = None,
        secrets: Iterable[str] = (),
        cwd: str | None = None,
        user: str | None = None,
        shell_id: str | None = None,
    ) -> Shell:
        """Opens a shell session, which keeps its directory and variables from command to command.

        `secrets` names those of the sandbox's secrets that it gets as variables.

        Raises `ShellExists` for a `shell_id` that is in use.
        """
        own_id = shell_id or new_id("sh")
        fields = given(env=dict(env) if env else None, secrets=[*secrets] or None, cwd=cwd, user=user)
        body = encoded({"shell_id": own_id, **fields})
        try:
            self._connection.send("POST", f"{self._path}/shells", body)
        except ShellExists as error:
            # Made by an attempt whose answer was lost: nobody else knows an id that was made here.
            if shell_id is not None or not error.resent:
                raise
        return Shell(self._connection, self._path, own_id)

    def python(
        self,
        *,
        imports: Iterable[str] | None = None,
        env: Mapping[str, str] | None = None,
        secrets: Iterable[str] = (),
        cwd: str | None = None,
        user: str | None = None,
        memory_bytes: int | None = None,
        context_id: str | None = None,
    ) -> Context:
        """Opens a context: a live Python interpreter, the sandbox's own, which keeps its variables from run to run.

        `imports` are modules that it starts with, at no cost to it: the first context with the same list, `user` and
        `env` waits for their import, later ones are forked from it (when None: json, re, math, random, collections, and
        numpy where it is installed). `memory_bytes` limits its data, beside the sandbox's own limit: more is a
        `MemoryError` in it. `secrets` names those of the sandbox's secrets that it gets as variables.

        Raises `Unsupported` for a sandbox without Python 3.8 or newer, `ContextExists` for a `context_id` in use.
        """
        own_id = context_id or new_id("py")
        fields = given(
            imports=None if imports is None else [*imports],
            env=dict(env) if env else None,
            secrets=[*secrets] or None,
            cwd=cwd,
            user=user,
            memory_bytes=memory_bytes,
        )
        body = encoded({"context_id": own_id, **fields})
        try:
            self._connection.send("POST", f"{self._path}/contexts", body)
        except ContextExists as error:
            # Made by an attempt whose answer was lost: nobody else knows an id that was made here.
            if context_id is not None or not error.resent:
                raise
        return Context(self._connection, self._path, own_id)

    def context(self, context_id: str) -> Context:
        """The context with this id, of this or an earlier process. The server is not asked."""
        return Context(self._connection, self._path, context_id)

    def contexts(self) -> list[ContextInfo]:
        """The contexts, oldest first; one that has ended is among them until it is closed."""
        reply = self._connection.send("GET", f"{self._path}/contexts")
        return [context_of(item) for item in reply.json()["items"]]

    def shells(self) -> list[ShellInfo]:
        """The open shell sessions."""
        reply = self._connection.send("GET", f"{self._path}/shells")
        return [shell_of(item) for item in reply.json()["items"]]

    def freeze(self) -> None:
        """Stops every process; they keep their memory. Raises `Unsupported` where the machine cannot."""
        self.info = info_of((self._connection.send("POST", f"{self._path}/freeze")).json())

    def thaw(self) -> None:
        """Lets the processes run again."""
        self.info = info_of((self._connection.send("POST", f"{self._path}/thaw")).json())

    def snapshot(
        self, *, id: str | None = None, labels: Mapping[str, str] | None = None, end: bool = False
    ) -> SnapshotInfo:
        """Takes a snapshot of its files, of which others are made: `client.create(image=f"snapshot:{info.id}")`.

        Its processes stand still meanwhile. With `end` it is deleted, and the snapshot is there at once, however much
        it has changed. Raises `SnapshotExists` for an `id` that is in use.
        """
        own_id = id or new_id("sn")
        body = {**given(id=own_id, labels=dict(labels) if labels else None), **({"afterwards": "end"} if end else {})}
        at = f"{self._path}/snapshot"
        try:
            return snapshot_of((self._connection.send("POST", at, encoded(body))).json())
        except (SnapshotExists, SandboxEnded, SandboxNotFound) as error:
            # An attempt whose answer was lost took it.
            if not error.resent:
                raise
            return snapshot_of((self._connection.send("GET", f"/v1/snapshots/{segment(own_id)}")).json())

    def fork(
        self,
        *,
        id: str | None = None,
        cpus: float | None = None,
        memory_bytes: int | None = None,
        pids: int | None = None,
        env: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
        lease: Lease | None = None,
        secrets: Mapping[str, str] | None = None,
        wait_s: float | None = None,
        priority: int | None = None,
    ) -> Sandbox:
        """Makes a fork: another sandbox with the files that this one has now, and no process of it.

        It has what this one was made with; the arguments count over that, as those of `Pool.claim` do. Many at
        once are `client.group(count, fork_of=sandbox.id)`. Raises what `Client.create` raises.
        """
        claim = claim_body(
            cpus=cpus,
            memory_bytes=memory_bytes,
            pids=pids,
            env=env,
            labels=labels,
            files=(),
            lease=lease,
            secrets=secrets,
        )
        body = {**given(id=id), "claim": claim}
        info = ordered(self._connection, f"{self._path}/fork", body, wait_s=wait_s, priority=priority)
        return Sandbox(self._connection, info_of(info), None)

    def restore(self, snapshot: str | None = None) -> None:
        """Sets it back to a snapshot, or to the image that it is made of: no file and no process of before is left.

        Requests that are under way in it raise `SandboxRestored`. Raises `SnapshotNotFound`.
        """
        at = f"{self._path}/restore"
        self.info = info_of((self._connection.send("POST", at, encoded(given(snapshot=snapshot)))).json())

    def refresh(self) -> SandboxInfo:
        """Asks the server how it is."""
        self.info = info_of((self._connection.send("GET", self._path)).json())
        return self.info

    def stats(self) -> SandboxStats:
        """What it uses now: CPU time, memory, processes, as far as its machine counts them."""
        return sandbox_stats_of((self._connection.send("GET", f"{self._path}/stats")).json())

    def delete(self) -> None:
        """Deletes it; returns when nothing of it is left. One that has ended before is as good as deleted.

        Raises `SandboxNotFound` when the server does not even remember it.
        """
        try:
            self._connection.send("DELETE", self._path)
        except SandboxEnded:
            # Somebody deleted it before, its lease did, or an attempt whose answer was lost.
            return
        except SandboxNotFound as error:
            if not error.resent:
                raise
        finally:
            self.close()

    def close(self) -> None:
        """Closes the connection of a sandbox that was made without a client; the sandbox lives on."""
        if self._own is not None:
            self._own.close()
