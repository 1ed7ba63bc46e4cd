from __future__ import annotations

from typing import Any

from openenv.core.env_server.types import Action, Observation


class ReasoningGymAction(Action):
    answer: str


class ReasoningGymObservation(Observation):
    question: str | None = None
    score: float | None = None
    correct_answer: str | None = None
    dataset_metadata: dict[str, Any] | None = None
