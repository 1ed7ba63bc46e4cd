"""What a client of one environment says of it: how actions are sent, and how results are read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from .results import StepResult, generic_result

ActT = TypeVar("ActT")
ObsT = TypeVar("ObsT")
StateT = TypeVar("StateT")


class Hooks(Generic[ActT, ObsT, StateT]):
    """To be overridden for actions, observations and states with classes of their own. Without that they are dicts."""

    if not TYPE_CHECKING:

        def __class_getitem__(cls, classes: Any) -> Any:
            """The first clients named the classes of actions and observations alone."""
            if len(cls.__parameters__) == 3 and isinstance(classes, tuple) and len(classes) == 2:
                classes = (*classes, Any)
            return super().__class_getitem__(classes)

    def _step_payload(self, action: ActT) -> dict[str, Any]:
        """The JSON of an action: a dict as it is, models of pydantic, and what has attributes."""
        return payload_of(action)

    def _parse_result(self, payload: dict[str, Any]) -> StepResult[ObsT]:
        """The result in the JSON of a server, `{"observation", "reward", "done"}`."""
        result: Any = generic_result(payload)
        return result  # type: ignore[no-any-return]

    def _parse_state(self, payload: dict[str, Any]) -> StateT:
        """The state in the JSON of a server."""
        state: Any = payload
        return state  # type: ignore[no-any-return]


def payload_of(action: Any) -> dict[str, Any]:
    """The JSON of an action of any kind."""
    if isinstance(action, dict):
        return action
    if hasattr(action, "model_dump"):
        return dict(action.model_dump())
    return dict(vars(action)) if hasattr(action, "__dict__") else dict(action)
