"""A file of API keys, and the program that makes them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import NamedTuple


class Key(NamedTuple):
    id: str
    secret: str


class Keys:
    def __init__(self, binary: str, path: Path) -> None:
        self._binary = binary
        self.path = path

    @property
    def arguments(self) -> tuple[str, str]:
        """What has a server use them."""
        return "--keys", str(self.path)

    def _hothouse(self, *arguments: str) -> str:
        command = [self._binary, "keys", *arguments, *self.arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def create(self, tenant: str, role: str = "user") -> Key:
        made = json.loads(self._hothouse("create", "--tenant", tenant, "--role", role, "--json"))
        return Key(made["id"], made["key"])

    def limit(self, tenant: str, *limits: str) -> None:
        self._hothouse("limit", tenant, *limits)

    def revoke(self, key: Key) -> None:
        self._hothouse("revoke", key.id)
