"""What a client is told of a reset and of a step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, Optional, TypeVar

ObsT = TypeVar("ObsT")


@dataclass
class StepResult(Generic[ObsT]):
    """What came of a reset or a step."""

    observation: ObsT
    reward: Optional[float] = None
    done: bool = False
    metadata: Optional[dict[str, Any]] = None


def generic_result(payload: dict[str, Any]) -> StepResult[dict[str, Any]]:
    """The result in what a server sent, with its observation as the dict that it is."""
    return StepResult(
        observation=payload.get("observation", {}),
        reward=payload.get("reward"),
        done=bool(payload.get("done", False)),
        metadata=payload.get("metadata"),
    )
