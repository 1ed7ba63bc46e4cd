"""Rubrics: rewards that are put together of parts, each of which can be looked at.

A rubric scores an action and the observation that it led to. An attribute of a rubric that is a rubric is its child.
Scores may be awaitable anywhere in the tree; then so is that of the whole.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Callable, Optional, Union

Score = Any
"""A float, or something to await for one."""
PreHook = Callable[["Rubric", Any, Any], Any]
Hook = Callable[["Rubric", Any, Any, float], Any]


class Rubric:
    """One part of a reward. `forward` is written by its author; the rubric itself is called."""

    def __init__(self) -> None:
        self._prepare()

    def _prepare(self) -> None:
        if "_children" not in self.__dict__:
            object.__setattr__(self, "_children", {})
            object.__setattr__(self, "_pre_hooks", [])
            object.__setattr__(self, "_hooks", [])
            object.__setattr__(self, "last_score", None)

    def __setattr__(self, name: str, value: Any) -> None:
        """Takes a rubric for a child."""
        # Before the first, so that an author who forgets `super().__init__()` has a rubric too.
        self._prepare()
        children: dict[str, Rubric] = self.__dict__["_children"]
        if isinstance(value, Rubric):
            children[name] = value
        else:
            children.pop(name, None)
        object.__setattr__(self, name, value)

    def forward(self, action: Any, observation: Any) -> Score:
        """The score of what the action led to: a float, or something to await for one."""
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    def __call__(self, action: Any, observation: Any) -> Any:
        """The score, after the hooks before it, and kept as `last_score`; then the hooks after it."""
        self._prepare()
        hooks: list[PreHook] = self.__dict__["_pre_hooks"]
        for index, hook in enumerate(hooks):
            waiting = hook(self, action, observation)
            if inspect.isawaitable(waiting):
                return self._scored_later(action, observation, waiting, hooks[index + 1 :])
        score = self.forward(action, observation)
        if inspect.isawaitable(score):
            return self._finished_later(action, observation, score)
        return self._finished(action, observation, score)

    async def _scored_later(
        self, action: Any, observation: Any, waiting: Awaitable[Any], hooks: list[PreHook]
    ) -> float:
        await waiting
        for hook in hooks:
            await _settled(hook(self, action, observation))
        return await self._finished_later(action, observation, self.forward(action, observation))

    async def _finished_later(self, action: Any, observation: Any, score: Any) -> float:
        value = float(await _settled(score))
        self.last_score = value
        for hook in self.__dict__["_hooks"]:
            await _settled(hook(self, action, observation, value))
        return value

    def _finished(self, action: Any, observation: Any, score: Any) -> Any:
        self.last_score = score
        hooks: list[Hook] = self.__dict__["_hooks"]
        for index, hook in enumerate(hooks):
            waiting = hook(self, action, observation, score)
            if inspect.isawaitable(waiting):
                return self._hooked_later(action, observation, score, waiting, hooks[index + 1 :])
        return score

    async def _hooked_later(
        self, action: Any, observation: Any, score: float, waiting: Awaitable[Any], hooks: list[Hook]
    ) -> float:
        await waiting
        for hook in hooks:
            await _settled(hook(self, action, observation, score))
        return score

    def register_forward_pre_hook(self, hook: PreHook) -> None:
        """Has a function called with the rubric, the action and the observation before each score."""
        self._prepare()
        self.__dict__["_pre_hooks"].append(hook)

    def register_forward_hook(self, hook: Hook) -> None:
        """Has a function called with the rubric, the action, the observation and the score after each score."""
        self._prepare()
        self.__dict__["_hooks"].append(hook)

    def children(self) -> Iterator[Rubric]:
        """The rubrics that this one is made of."""
        for _, child in self.named_children():
            yield child

    def named_children(self) -> Iterator[tuple[str, Rubric]]:
        """They, with what they are called."""
        self._prepare()
        yield from self.__dict__["_children"].items()

    def rubrics(self) -> Iterator[Rubric]:
        """All rubrics under this one, however deep."""
        for _, rubric in self.named_rubrics():
            yield rubric

    def named_rubrics(self, prefix: str = "") -> Iterator[tuple[str, Rubric]]:
        """They, with their paths, such as `tests.style`."""
        for name, child in self.named_children():
            path = f"{prefix}.{name}" if prefix else name
            yield path, child
            yield from child.named_rubrics(path)

    def get_rubric(self, path: str) -> Rubric:
        """The rubric at a path. Raises KeyError."""
        rubric = self
        for name in path.split("."):
            children = dict(rubric.named_children())
            if name not in children:
                raise KeyError(f"there is no rubric {path!r} under {type(self).__name__}: it has no {name!r}")
            rubric = children[name]
        return rubric

    def reset(self) -> Any:
        """Forgets the episode."""

    def state_dict(self) -> dict[str, Any]:
        """What a rubric has that is worth keeping."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes what `state_dict` gave."""


async def _settled(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


async def _gathered(scores: Iterable[Any]) -> list[float]:
    import asyncio

    return list(await asyncio.gather(*(_settled(score) for score in scores)))


class Sequential(Rubric):
    """Rubrics in a row: the first score of zero is the score, else the last one. Without any it is 1.0."""

    def __init__(self, *rubrics: Rubric) -> None:
        super().__init__()
        self._rubrics = list(rubrics)
        for index, rubric in enumerate(rubrics):
            setattr(self, f"rubric_{index}", rubric)

    def forward(self, action: Any, observation: Any) -> Score:
        """Asks them in turn, until one gives zero."""
        score: Any = 1.0
        for index, rubric in enumerate(self._rubrics):
            score = rubric(action, observation)
            if inspect.isawaitable(score):
                return self._rest(action, observation, score, self._rubrics[index + 1 :])
            if score == 0.0:
                return 0.0
        return score

    async def _rest(self, action: Any, observation: Any, first: Any, rubrics: list[Rubric]) -> float:
        score = await first
        for rubric in rubrics:
            if score == 0.0:
                return 0.0
            score = await _settled(rubric(action, observation))
        return float(score)

    def __len__(self) -> int:
        return len(self._rubrics)

    def __getitem__(self, index: int) -> Rubric:
        return self._rubrics[index]


class Gate(Rubric):
    """Another rubric's score, or 0.0 where that is below a threshold."""

    def __init__(self, rubric: Rubric, threshold: float = 1.0) -> None:
        super().__init__()
        self.rubric = rubric
        self.threshold = threshold

    def forward(self, action: Any, observation: Any) -> Score:
        """The score, if it is enough."""
        score = self.rubric(action, observation)
        return self._later(score) if inspect.isawaitable(score) else self._passed(score)

    async def _later(self, score: Any) -> float:
        return self._passed(await score)

    def _passed(self, score: float) -> float:
        return 0.0 if score < self.threshold else score


class WeightedSum(Rubric):
    """Scores, each times its weight. The weights add up to one."""

    def __init__(self, rubrics: Sequence[Rubric], weights: Sequence[float]) -> None:
        super().__init__()
        if len(rubrics) != len(weights):
            raise ValueError(f"there are {len(rubrics)} rubrics and {len(weights)} weights")
        if abs(sum(weights) - 1.0) > 1e-6:
            raise ValueError(f"the weights add up to {sum(weights)}, not to 1.0")
        self._rubrics = list(rubrics)
        self._weights = list(weights)
        for index, rubric in enumerate(rubrics):
            setattr(self, f"rubric_{index}", rubric)

    @property
    def weights(self) -> list[float]:
        """A copy of the weights."""
        return list(self._weights)

    def forward(self, action: Any, observation: Any) -> Score:
        """The sum. Those to await are awaited together."""
        scores = [rubric(action, observation) for rubric in self._rubrics]
        return self._later(scores) if any(map(inspect.isawaitable, scores)) else self._sum(scores)

    async def _later(self, scores: list[Any]) -> float:
        return self._sum(await _gathered(scores))

    def _sum(self, scores: list[Any]) -> float:
        return float(sum(score * weight for score, weight in zip(scores, self._weights)))


class RubricList(Rubric):
    """A list of rubrics. It has no score of its own: its owner asks them."""

    def __init__(self, rubrics: Optional[Iterable[Rubric]] = None) -> None:
        super().__init__()
        self._rubrics: list[Rubric] = []
        self.extend(rubrics or ())

    def forward(self, action: Any, observation: Any) -> Score:
        """Refuses: it is not said how the scores go together."""
        raise NotImplementedError("a RubricList has no score: ask the rubrics in it")

    def append(self, rubric: Rubric) -> None:
        """Puts one more at its end."""
        setattr(self, f"rubric_{len(self._rubrics)}", rubric)
        self._rubrics.append(rubric)

    def extend(self, rubrics: Iterable[Rubric]) -> None:
        """Puts several more at its end."""
        for rubric in rubrics:
            self.append(rubric)

    def __len__(self) -> int:
        return len(self._rubrics)

    def __getitem__(self, index: int) -> Rubric:
        return self._rubrics[index]

    def __iter__(self) -> Iterator[Rubric]:
        return iter(self._rubrics)


class RubricDict(Rubric):
    """Rubrics by name. It has no score of its own: its owner asks them."""

    def __init__(self, rubrics: Optional[Mapping[str, Rubric]] = None) -> None:
        super().__init__()
        self._rubrics: dict[str, Rubric] = {}
        self.update(rubrics or {})

    def forward(self, action: Any, observation: Any) -> Score:
        """Refuses: it is not said how the scores go together."""
        raise NotImplementedError("a RubricDict has no score: ask the rubrics in it")

    def __setitem__(self, key: str, rubric: Rubric) -> None:
        setattr(self, key, rubric)
        self._rubrics[key] = rubric

    def __getitem__(self, key: str) -> Rubric:
        return self._rubrics[key]

    def __contains__(self, key: object) -> bool:
        return key in self._rubrics

    def __len__(self) -> int:
        return len(self._rubrics)

    def __iter__(self) -> Iterator[str]:
        return iter(self._rubrics)

    def keys(self) -> Iterator[str]:
        """The names."""
        return iter(self._rubrics.keys())

    def values(self) -> Iterator[Rubric]:
        """The rubrics."""
        return iter(self._rubrics.values())

    def items(self) -> Iterator[tuple[str, Rubric]]:
        """Both."""
        return iter(self._rubrics.items())

    def update(self, rubrics: Union[Mapping[str, Rubric], dict[str, Rubric]]) -> None:
        """Puts these in, in place of those of the same names."""
        for key, rubric in rubrics.items():
            self[key] = rubric


class TrajectoryRubric(Rubric):
    """Scores an episode when it is over; until then each step has the intermediate reward."""

    def __init__(self, intermediate_reward: float = 0.0) -> None:
        super().__init__()
        self.intermediate_reward = intermediate_reward
        self._trajectory: list[tuple[Any, Any]] = []

    def forward(self, action: Any, observation: Any) -> Score:
        """Keeps the step; at the end of the episode it gives the score of all of them."""
        self._trajectory.append((action, observation))
        done = observation.get("done") if isinstance(observation, dict) else getattr(observation, "done", False)
        return self.score_trajectory(self._trajectory) if done else self.intermediate_reward

    def score_trajectory(self, trajectory: list[tuple[Any, Any]]) -> Score:
        """The score of an episode: its actions and observations. To be written by the author."""
        raise NotImplementedError(f"{type(self).__name__} has no score_trajectory")

    def compute_step_rewards(self) -> list[float]:
        """How the score of the episode is shared out among its steps. To be written by the author."""
        raise NotImplementedError(f"{type(self).__name__} has no compute_step_rewards")

    @property
    def trajectory(self) -> list[tuple[Any, Any]]:
        """The steps so far, as a copy."""
        return list(self._trajectory)

    def reset(self) -> Any:
        """Forgets the episode."""
        self._trajectory = []

    def state_dict(self) -> dict[str, Any]:
        """Its setting; an episode is not kept."""
        return {"intermediate_reward": self.intermediate_reward}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes what `state_dict` gave."""
        self.intermediate_reward = state.get("intermediate_reward", self.intermediate_reward)


class ExponentialDiscounting(TrajectoryRubric):
    """Shares the score out so that step t of T has gamma to the power of T - 1 - t of it."""

    def __init__(self, gamma: float = 0.99, intermediate_reward: float = 0.0) -> None:
        super().__init__(intermediate_reward)
        if not 0.0 <= gamma <= 1.0:
            raise ValueError(f"gamma is {gamma}, which is not from 0 to 1")
        self.gamma = gamma

    def compute_step_rewards(self) -> list[float]:
        """One reward for each step."""
        if not self._trajectory:
            return []
        score = self.score_trajectory(self._trajectory)
        last = len(self._trajectory) - 1
        return [self.gamma ** (last - index) * score for index in range(len(self._trajectory))]

    def state_dict(self) -> dict[str, Any]:
        """Its settings; an episode is not kept."""
        return {**super().state_dict(), "gamma": self.gamma}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes what `state_dict` gave."""
        super().load_state_dict(state)
        self.gamma = state.get("gamma", self.gamma)


ExponentialDiscountingTrajectoryRubric = ExponentialDiscounting
