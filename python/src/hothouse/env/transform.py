"""What changes an observation on its way out, such as by giving it a reward."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

ObsT = TypeVar("ObsT")


class Transform(ABC, Generic[ObsT]):
    """Takes an observation and gives it back, changed or not."""

    @abstractmethod
    def __call__(self, observation: ObsT) -> ObsT:
        """The observation as it is to go out."""


class CompositeTransform(Transform[Any]):
    """Several transforms, one after the other."""

    def __init__(self, transforms: Sequence[Transform[Any]]) -> None:
        self.transforms = list(transforms)

    def __call__(self, observation: Any) -> Any:
        """Each takes what the one before gave."""
        for transform in self.transforms:
            observation = transform(observation)
        return observation


class NullTransform(Transform[Any]):
    """Changes nothing."""

    def __call__(self, observation: Any) -> Any:
        """The same observation."""
        return observation
