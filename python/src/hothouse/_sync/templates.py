# Generated from ../_async by generate_sync.py: edit that, then run it.
"""Templates: what pools make their sandboxes from."""

from __future__ import annotations

import builtins
from collections.abc import Iterable, Mapping

from ..bodies import encoded, segment, spec_body
from ..errors import TemplateNotFound
from ..shapes.lease import Lease
from ..shapes.pool import Template, template_of
from .connection import Connection


class Templates:
    """The templates of a server."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def put(
        self,
        name: str,
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
        setup: Iterable[str] = (),
        lease: Lease | None = None,
        needs: Mapping[str, float] | None = None,
    ) -> Template:
        """Makes a template, or a new version of it; the same spec again changes nothing.

        The arguments are those of `Client.create`, and `setup`: lines for `/bin/sh -c` that run one after the
        other, once: every sandbox begins with the files that they leave, and none of their processes (at most 64, each
        within 600 s, all of which have to exit with 0).
        The `lease` counts from the claim. Pools replace what they keep ready of an earlier version.
        """
        body = spec_body(
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
            setup=setup,
            lease=lease,
            needs=needs,
        )
        reply = self._connection.send("PUT", f"/v1/templates/{segment(name)}", encoded(body))
        return template_of(reply.json())

    def get(self, name: str) -> Template:
        """Looks at one. Raises `TemplateNotFound`."""
        return template_of((self._connection.send("GET", f"/v1/templates/{segment(name)}")).json())

    def list(self) -> builtins.list[Template]:
        """All of them, sorted by name."""
        reply = self._connection.send("GET", "/v1/templates")
        return [template_of(item) for item in reply.json()["items"]]

    def delete(self, name: str) -> None:
        """Deletes one. Raises `TemplateInUse` when a pool uses it, and `TemplateNotFound`."""
        try:
            self._connection.send("DELETE", f"/v1/templates/{segment(name)}")
        except TemplateNotFound as error:
            # An attempt whose answer was lost deleted it.
            if not error.resent:
                raise
