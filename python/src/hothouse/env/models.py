"""`Action`, `Observation` and `State`, over pydantic where it is installed."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .plain_models import Action, Observation, State
else:
    from .installed import pydantic

    if pydantic is not None:
        from .pydantic_models import Action, Observation, State
    else:
        from .plain_models import Action, Observation, State

__all__ = ["Action", "Observation", "State"]
