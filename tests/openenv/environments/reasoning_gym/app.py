"""Questions of reasoning-gym, one for each episode. Beside its requirements it needs that package."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import reasoning_gym
from models import ReasoningGymAction, ReasoningGymObservation
from openenv.core.env_server.http_server import create_app
from openenv.core.env_server.interfaces import Environment
from openenv.core.env_server.types import State


class ReasoningGym(Environment):
    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self) -> None:
        super().__init__()
        self._state = State(episode_id=str(uuid4()), step_count=0)

    def reset(
        self,
        seed: int = 42,
        episode_id: str | None = None,
        dataset_name: str = "leg_counting",
        dataset_config: dict[str, Any] | None = None,
    ) -> ReasoningGymObservation:
        self._dataset = reasoning_gym.create_dataset(dataset_name, seed=seed, size=1, **(dataset_config or {}))
        self._entry = self._dataset[0]
        self._state = State(episode_id=episode_id or str(uuid4()), step_count=0)
        return ReasoningGymObservation(question=self._entry["question"], reward=0.0)

    def step(self, action: ReasoningGymAction) -> ReasoningGymObservation:
        score = float(self._dataset.score_answer(action.answer, self._entry))
        self._state.step_count += 1
        return ReasoningGymObservation(
            score=score,
            correct_answer=self._entry["answer"],
            dataset_metadata=self._entry["metadata"],
            reward=score,
            done=True,
        )

    @property
    def state(self) -> State:
        return self._state


app = create_app(
    ReasoningGym, ReasoningGymAction, ReasoningGymObservation, env_name="reasoning_gym", max_concurrent_envs=8
)
