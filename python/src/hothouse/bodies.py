"""What requests carry: JSON bodies and targets, made from plain arguments. Nothing here does I/O."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Union
from urllib.parse import quote, urlencode

from .shapes.exec import text_with_encoding
from .shapes.lease import Lease, lease_body
from .shapes.pool import ClaimFile

Command = Union[str, Sequence[str]]
"""A command: a string is a line for the sandbox's `/bin/sh -c`, a list is a program and its arguments."""


def new_id(prefix: str) -> str:
    """An id that nobody else has: the prefix and 128 random bits."""
    return f"{prefix}-{os.urandom(16).hex()}"


def encoded(body: Any) -> bytes:
    """A body as JSON."""
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()


def segment(name: str) -> str:
    """A name as one segment of a path."""
    return quote(name, safe="")


def target(path: str, /, **parameters: Any) -> str:
    """A path with query parameters; those that are None are left out, and truth is written as the API does."""
    given = {
        name: ("true" if value else "false") if isinstance(value, bool) else value
        for name, value in parameters.items()
        if value is not None
    }
    return f"{path}?{urlencode(given, doseq=True)}" if given else path


def octal(mode: int | None) -> str | None:
    """Permission bits as the API writes them."""
    return None if mode is None else format(mode, "o")


def given(**fields: Any) -> dict[str, Any]:
    """The fields that are not None."""
    return {name: value for name, value in fields.items() if value is not None}


def spec_body(
    *,
    image: str | None,
    layers: Iterable[str] = (),
    cpus: float | None,
    memory_bytes: int | None,
    pids: int | None,
    disk_bytes: int | None,
    disk_inodes: int | None,
    env: Mapping[str, str] | None,
    workdir: str | None,
    labels: Mapping[str, str] | None,
    lease: Lease | None,
    needs: Mapping[str, float] | None,
    secrets: Mapping[str, str] | None = None,
    setup: Iterable[str] = (),
) -> dict[str, Any]:
    """A `SandboxSpec` (without `setup`) or `TemplateSpec` (without `secrets`)."""
    resources = given(cpus=cpus, memory_bytes=memory_bytes, pids=pids, disk_bytes=disk_bytes, disk_inodes=disk_inodes)
    body = given(image=image, workdir=workdir)
    if resources:
        body["resources"] = resources
    if above := list(layers):
        body["layers"] = above
    if env:
        body["env"] = dict(env)
    if labels:
        body["labels"] = dict(labels)
    if lines := list(setup):
        body["setup"] = lines
    if needs:
        body["needs"] = dict(needs)
    return {**body, **_terms(lease, secrets)}


def _terms(lease: Lease | None, secrets: Mapping[str, str] | None) -> dict[str, Any]:
    terms: dict[str, Any] = {}
    if fields := lease_body(lease):
        terms["lease"] = fields
    if secrets:
        terms["secrets"] = dict(secrets)
    return terms


def exec_body(
    command: Command,
    exec_id: str,
    *,
    env: Mapping[str, str] | None = None,
    secrets: Iterable[str] = (),
    cwd: str | None = None,
    user: str | None = None,
    stdin: str | bytes | None = None,
    timeout_s: float | None = None,
    grace_s: float | None = None,
    output_limit_bytes: int | None = None,
) -> dict[str, Any]:
    """An `ExecSpec`."""
    body: dict[str, Any] = {"exec_id": exec_id}
    if isinstance(command, str):
        body["shell"] = command
    else:
        body["argv"] = list(command)
    if env:
        body["env"] = dict(env)
    if names := list(secrets):
        body["secrets"] = names
    if stdin is not None:
        body["stdin"], body["stdin_encoding"] = text_with_encoding(stdin)
    if cwd is not None:
        body["cwd"] = cwd
    if user is not None:
        body["user"] = user
    if timeout_s is not None:
        body["timeout_s"] = timeout_s
    if grace_s is not None:
        body["grace_s"] = grace_s
    if output_limit_bytes is not None:
        body["output_limit_bytes"] = output_limit_bytes
    return body


def claim_body(
    *,
    cpus: float | None,
    memory_bytes: int | None,
    pids: int | None,
    env: Mapping[str, str] | None,
    labels: Mapping[str, str] | None,
    files: Iterable[ClaimFile],
    lease: Lease | None,
    secrets: Mapping[str, str] | None,
) -> dict[str, Any]:
    """A `ClaimSpec`."""
    body = _terms(lease, secrets)
    if resources := given(cpus=cpus, memory_bytes=memory_bytes, pids=pids):
        body["resources"] = resources
    if env:
        body["env"] = dict(env)
    if labels:
        body["labels"] = dict(labels)
    brought = []
    for file in files:
        content, encoding = text_with_encoding(file.content)
        brought.append({"path": file.path, "content": content, "encoding": encoding, **given(mode=octal(file.mode))})
    if brought:
        body["files"] = brought
    return body
