"""`Action`, `Observation` and `State` where pydantic is not installed: dataclasses, with or without the decorator."""

from __future__ import annotations

import dataclasses
import functools
import sys
from dataclasses import field
from typing import TYPE_CHECKING, Any, Union

from .fields import annotations_of, fields_of, types_of
from .json_schema import schema_of
from .texts import sayable, text
from .validation import WRONG, Errors, Extra, model_check

if TYPE_CHECKING:
    from typing_extensions import Self, dataclass_transform
else:

    def dataclass_transform(**_: Any) -> Any:
        """Is for type checkers alone."""
        return lambda cls: cls


KEYWORDS_ONLY = sys.version_info >= (3, 10)
"""Whether dataclasses can have fields that are only given by name."""


class _LateBase:
    """For Python 3.9: the fields of `Action` and the like come last in each class under it.

    They have defaults, and the author's own fields need not have any.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Declares the fields of the base once more."""
        super().__init_subclass__(**kwargs)
        if _LateBase in cls.__bases__:
            return
        for base in cls.__mro__[1:]:
            if Model in base.__bases__:
                own = annotations_of(cls)
                # Their types, not texts, which would be read with the names of the author's module.
                cls.__annotations__ = {**own, **types_of(base)}
                for name in types_of(base):
                    if name not in own:
                        setattr(cls, name, base.__dict__[name])

    def __init__(self, **values: Any) -> None:
        """Is for the bases themselves; those under them have their own."""
        for each in fields_of(type(self)):
            value = each.factory() if each.factory is not None else each.default
            setattr(self, each.name, values.pop(each.name, value))
        for name, value in values.items():
            setattr(self, name, value)


def by_name(**said: Any) -> Any:
    """A field that is only given by name, where Python has such."""
    return (
        field(**said) if KEYWORDS_ONLY else field(**{name: value for name, value in said.items() if name != "kw_only"})
    )


@dataclass_transform(field_specifiers=(dataclasses.field, by_name))
class Model(object if KEYWORDS_ONLY else _LateBase):  # type: ignore[misc]
    """What the three have in common.

    A class under it becomes a dataclass when it is first used, unless its author has made it one. What is made in
    Python is not checked; what comes from a client is.
    """

    __extra__ = Extra.FORBID

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Makes sure that the class is a dataclass, so that the initializer that runs next is its own."""
        if "__dataclass_fields__" not in cls.__dict__:
            completed(cls)
        made: Self = object.__new__(cls)
        return made

    @classmethod
    def __complete__(cls) -> None:
        completed(cls)

    def model_dump(self) -> dict[str, Any]:
        """The fields and their values, as what JSON has."""
        dumped: dict[str, Any] = sayable(vars(self))
        return dumped

    def model_dump_json(self) -> str:
        """The fields and their values as JSON."""
        return text(vars(self), type(self).__name__).decode()

    @classmethod
    def model_validate(cls, value: Any) -> Self:
        """An instance of what came as JSON. Raises ValueError with all errors."""
        errors: Errors = []
        made = model_check(cls, cls.__extra__, "model_type")(value, errors)
        if made is WRONG:
            raise ValueError(errors)
        checked: Self = made
        return checked

    @classmethod
    def model_json_schema(cls) -> dict[str, Any]:
        """The JSON Schema of the class."""
        return schema_of(cls, cls.__extra__)


def completed(cls: type) -> type:
    """The class, made a dataclass where it is none yet."""
    if "__dataclass_fields__" in cls.__dict__ or not issubclass(cls, Model) or cls is Model:
        return cls
    if not KEYWORDS_ONLY and Model in cls.__bases__:
        return cls
    for base in cls.__mro__[1:]:
        completed(base)
    for name in annotations_of(cls):
        default = cls.__dict__.get(name)
        if isinstance(default, (list, dict, set)):
            # As in pydantic, each instance has its own.
            setattr(cls, name, field(default_factory=default.copy))
    keywords: dict[str, Any] = {"kw_only": True} if KEYWORDS_ONLY else {}
    dataclasses.dataclass(**keywords)(cls)
    if cls.__extra__ is Extra.ALLOW:
        names = {each.name for each in dataclasses.fields(cls)}
        cls.__init__ = _taking_more(cls.__init__, names)  # type: ignore[method-assign]
    return cls


def _taking_more(init: Any, names: set[str]) -> Any:
    """An initializer that also sets what is no field."""

    @functools.wraps(init)
    def initialize(self: Any, **values: Any) -> None:
        init(self, **{name: value for name, value in values.items() if name in names})
        for name, value in values.items():
            if name not in names:
                setattr(self, name, value)

    return initialize


class Action(Model):
    """What an agent does in one step. A client may send no field that it does not have."""

    metadata: dict[str, Any] = by_name(default_factory=dict, kw_only=True)


class Observation(Model):
    """What an agent sees after a step, with its reward, and whether the episode is over."""

    done: bool = by_name(default=False, kw_only=True)
    reward: Union[bool, int, float, None] = by_name(default=None, kw_only=True)
    metadata: dict[str, Any] = by_name(default_factory=dict, kw_only=True)


class State(Model):
    """Where an episode stands. Further fields may be set."""

    __extra__ = Extra.ALLOW

    episode_id: Union[str, None] = by_name(default=None, kw_only=True)
    step_count: int = by_name(default=0, metadata={"ge": 0}, kw_only=True)


for _model in (Action, Observation, State):
    completed(_model)
