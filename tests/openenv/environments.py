"""Environments with a server of their own: which there are, how each is served by ours, and how by plain uvicorn.

Of what the openenv repository has, only the template is in a package. The others that it names are served where
`OPENENV_SOURCE` names a checkout; without one the table says so, and environments of our own writing, of the same games from
the same packages of PyPI, are served in any case.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
OWN = HERE / "environments"
ENGINES = ["ale-py", "chess", "open-spiel", "reasoning-gym"]
"""What our own need beside their requirements. All get all, so that one installation is enough."""


@dataclass(frozen=True)
class Played:
    """One of them."""

    name: str
    directory: Path
    policy: str
    """What acts; see unmodified.py."""
    home: str
    """What is installed there is shared by those of this name."""
    app: str = "app:app"
    """What plain uvicorn is told, from within the directory or from beside it."""
    reset: dict[str, Any] = field(default_factory=lambda: {"seed": 7})
    drawn: bool = False
    """Whether an episode begins otherwise each time, whatever the seed."""
    requirements: list[str] = field(default_factory=list)
    """What it needs beside what it says itself."""

    def flags(self) -> list[str]:
        """Of `hothouse env serve`."""
        return [flag for requirement in self.requirements for flag in ("--with", requirement)]

    def told(self) -> dict[str, Any]:
        """What unmodified.py has to know of it."""
        told = {"name": self.name, "directory": str(self.directory), "policy": self.policy}
        return told | {"reset": self.reset, "drawn": self.drawn}


def own() -> list[Played]:
    """Those that were written for these tests."""
    ours = {
        "trouble": ("trouble", {"seed": 7}),
        "chess": ("chess", {"seed": 7}),
        "openspiel": ("openspiel", {"seed": 7}),
        "reasoning_gym": ("answer", {"seed": 7, "dataset_name": "chain_sum"}),
        "atari": ("atari", {"seed": 7}),
    }
    return [
        Played(name, OWN / name, policy, "own", reset=reset, requirements=ENGINES)
        for name, (policy, reset) in ours.items()
    ]


def templates(venvs: Path) -> list[Played]:
    """What `openenv init` writes."""
    directory = venvs / "0.10" / "template" / "echo"
    return [Played("template", directory.resolve(), "echo", "template", app="server.app:app")]


OPENENVS: dict[str, dict[str, Any]] = {
    "connect4_env": {"policy": "column"},
    "grid_world_env": {"policy": "direction", "app": "grid_world_env.server.app:app"},
    # Who begins is drawn, and what the opponent does first.
    "chess_env": {"policy": "chess", "app": "chess_env.server.app:app", "drawn": True},
    "openspiel_env": {"policy": "openspiel", "drawn": True, "requirements": ["open-spiel"]},
    "reasoning_gym_env": {"policy": "answer", "reset": {"seed": 7, "dataset_name": "chain_sum", "size": 3}},
    "atari_env": {"policy": "atari"},
    "coding_env": {"policy": "code", "app": "coding_env.server.app:app"},
}
"""Directories of the openenv repository, below `envs`."""


def openenvs() -> tuple[list[Played], dict[str, str]]:
    """Those of a checkout; and why there are none of the others, by name."""
    if "OPENENV_SOURCE" not in os.environ:
        why = "not on PyPI; OPENENV_SOURCE may name a checkout of the openenv repository"
        return [], dict.fromkeys(OPENENVS, why)
    source = Path(os.environ["OPENENV_SOURCE"]).resolve() / "envs"
    return [
        Played(name, source / name, home=name, **{"app": "server.app:app", **how}) for name, how in OPENENVS.items()
    ], {}
