"""Rubrics: trees of rewards, whose parts may have to be awaited."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

import pytest

from hothouse.env import (
    CompositeTransform,
    Environment,
    ExponentialDiscounting,
    Gate,
    NullTransform,
    Observation,
    Rubric,
    RubricDict,
    RubricList,
    Sequential,
    TrajectoryRubric,
    Transform,
    WeightedSum,
)


class Fixed(Rubric):
    def __init__(self, score: float) -> None:
        super().__init__()
        self.score = score
        self.asked = 0

    def forward(self, action: Any, observation: Any) -> Any:
        self.asked += 1
        return self.score


class Awaited(Fixed):
    async def forward(self, action: Any, observation: Any) -> Any:
        self.asked += 1
        await asyncio.sleep(0)
        return self.score


class Forgetful(Rubric):
    def __init__(self) -> None:
        # Its author forgot to call the initializer above it.
        self.part = Fixed(0.5)

    def forward(self, action: Any, observation: Any) -> Any:
        return self.part(action, observation)


def settled(score: Any) -> Any:
    async def wait() -> Any:
        return await score

    return asyncio.run(wait()) if inspect.isawaitable(score) else score


@pytest.mark.parametrize("kind", [Fixed, Awaited])
def test_scores_go_together(kind: type[Fixed]) -> None:
    def score(rubric: Rubric) -> Any:
        return settled(rubric("action", "observation"))

    assert score(Sequential()) == 1.0
    assert score(Sequential(kind(0.5), kind(0.25))) == 0.25
    last = kind(1.0)
    assert score(Sequential(kind(0.5), kind(0.0), last)) == 0.0
    assert last.asked == 0
    assert score(Gate(kind(0.9))) == 0.0
    assert score(Gate(kind(0.9), threshold=0.9)) == 0.9
    total = WeightedSum([kind(1.0), Fixed(0.5)], [0.25, 0.75])
    assert score(total) == 0.625
    assert total.last_score == 0.625
    assert total.get_rubric("rubric_0").last_score == 1.0


def test_weights_add_up_to_one() -> None:
    with pytest.raises(ValueError, match=r"add up to 0\.5"):
        WeightedSum([Fixed(1.0)], [0.5])
    with pytest.raises(ValueError, match="1 rubrics and 2 weights"):
        WeightedSum([Fixed(1.0)], [0.5, 0.5])
    WeightedSum([Fixed(1.0)] * 3, [0.1, 0.2, 0.7000001])


def test_a_tree_can_be_looked_at() -> None:
    tree = WeightedSum([Gate(Fixed(1.0)), RubricDict({"style": Fixed(0.5)})], [0.5, 0.5])
    assert [name for name, _ in tree.named_rubrics()] == ["rubric_0", "rubric_0.rubric", "rubric_1", "rubric_1.style"]
    assert next(name for name, _ in tree.named_rubrics("root")) == "root.rubric_0"
    assert len(list(tree.rubrics())) == 4
    assert len(list(tree.children())) == 2
    assert isinstance(tree.get_rubric("rubric_1.style"), Fixed)
    with pytest.raises(KeyError, match="has no 'nothing'"):
        tree.get_rubric("rubric_0.nothing")
    assert [name for name, _ in Forgetful().named_children()] == ["part"]
    assert Forgetful()("a", "o") == 0.5
    parts = RubricList([Fixed(0.1)])
    parts.append(Fixed(0.2))
    assert [part(0, 0) for part in parts] == [0.1, 0.2]
    assert (len(parts), [name for name, _ in parts.named_children()]) == (2, ["rubric_0", "rubric_1"])
    for bare in (parts, RubricDict()):
        with pytest.raises(NotImplementedError, match="ask the rubrics in it"):
            bare(0, 0)


@pytest.mark.parametrize("kind", [Fixed, Awaited])
def test_hooks_run_before_and_after(kind: type[Fixed]) -> None:
    heard: list[Any] = []

    async def later(*told: Any) -> None:
        heard.append(("later", *told[1:]))

    rubric = kind(0.5)
    rubric.register_forward_pre_hook(lambda *told: heard.append(("before", *told[1:])))
    rubric.register_forward_hook(lambda *told: heard.append(("after", *told[1:])))
    assert settled(rubric("a", "o")) == 0.5
    assert heard == [("before", "a", "o"), ("after", "a", "o", 0.5)]
    heard.clear()
    rubric.register_forward_pre_hook(later)
    rubric.register_forward_hook(later)
    assert settled(rubric("a", "o")) == 0.5
    assert [word for word, *_ in heard] == ["before", "later", "after", "later"]


class Won(ExponentialDiscounting):
    def score_trajectory(self, trajectory: list[tuple[Any, Any]]) -> float:
        return float(len(trajectory))


def test_an_episode_is_scored_at_its_end() -> None:
    rubric = Won(gamma=0.5, intermediate_reward=0.1)
    assert rubric.compute_step_rewards() == []
    assert rubric("a", Observation()) == 0.1
    assert rubric("b", {"done": False}) == 0.1
    assert rubric("c", Observation(done=True)) == 3.0
    assert rubric.compute_step_rewards() == [0.75, 1.5, 3.0]
    assert [action for action, _ in rubric.trajectory] == ["a", "b", "c"]
    rubric.reset()
    assert rubric.trajectory == []
    other = Won()
    other.load_state_dict(rubric.state_dict())
    assert (other.gamma, other.intermediate_reward) == (0.5, 0.1)
    with pytest.raises(ValueError, match="not from 0 to 1"):
        Won(gamma=1.5)
    with pytest.raises(NotImplementedError):
        TrajectoryRubric()("a", Observation(done=True))


class Doubled(Transform[Any]):
    def __call__(self, observation: Any) -> Any:
        observation.reward = (observation.reward or 1.0) * 2
        return observation


# The rubric that was asked in vain is asynchronous.
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_environment_applies_them() -> None:
    env: Environment[Any, Any, Any] = Environment(
        CompositeTransform([Doubled(), NullTransform(), Doubled()]), Fixed(0.5)
    )
    assert env._apply_transform(Observation()).reward == 4.0
    assert env._apply_rubric("a", "o") == 0.5
    env._reset_rubric()
    plain: Environment[Any, Any, Any] = Environment()
    same = Observation()
    assert plain._apply_transform(same) is same
    assert plain._apply_rubric("a", "o") == 0.0
    waiting: Environment[Any, Any, Any] = Environment(rubric=Awaited(0.25))
    assert asyncio.run(waiting._apply_rubric_async("a", "o")) == 0.25
    with pytest.raises(TypeError, match="use step_async"):
        waiting._apply_rubric("a", "o")
    with pytest.raises(TypeError):
        Transform()  # type: ignore[abstract]
