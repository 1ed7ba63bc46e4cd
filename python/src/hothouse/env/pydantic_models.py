"""`Action`, `Observation` and `State` where pydantic is installed: models of pydantic.

A class under them may also carry the decorator `dataclass`, as the first environments of this kind did. It then is made
and changed as a dataclass is, by position and without checks, while what comes from a client is checked by pydantic.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Union

import pydantic
from pydantic import BaseModel, ConfigDict

from . import plain_models
from .fields import BOUNDS, WORDS, annotations_of

FORBID = ConfigDict(extra="forbid", validate_assignment=True, arbitrary_types_allowed=True, protected_namespaces=())
ALLOW = ConfigDict(extra="allow", validate_assignment=True, arbitrary_types_allowed=True, protected_namespaces=())

MADE_BY_DATACLASS = ("__init__", "__setattr__", "__repr__", "__str__", "__eq__")


class ModelMeta(type(BaseModel)):  # type: ignore[misc]
    """The metaclass of pydantic's models, which lets the decorator `dataclass` have its way."""

    def __new__(mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **kwargs: Any) -> type:
        """Makes the model, of fields that may be dataclasses' own."""
        defaults = {key: namespace[key] for key in namespace if not key.startswith("__")}
        for key, value in defaults.items():
            if isinstance(value, dataclasses.Field):
                namespace[key] = _pydantic_field(value)
        if "__post_init__" in namespace:
            namespace.setdefault("model_post_init", _run_post_init)
        if any("__dataclass_shadow__" in base.__dict__ and "__written__" in base.__dict__ for base in bases):
            # Until it is decorated itself, a class under a decorated one is a model like any other.
            for key in MADE_BY_DATACLASS:
                namespace.setdefault(key, getattr(BaseModel, key))
        made: type = super().__new__(mcs, name, bases, namespace, **kwargs)
        type.__setattr__(made, "__written__", defaults)
        return made

    def __setattr__(cls, name: str, value: Any) -> None:
        """Notices what the decorator leaves; defaults have their place in the model already."""
        if _being_decorated(cls) and name in cls.__dict__["__written__"]:
            return
        if name == "__dataclass_fields__":
            value = _as_dataclass(cls)
        super().__setattr__(name, value)

    def __getattr__(cls, name: str) -> Any:
        """Shows the decorator the defaults, which pydantic has taken away."""
        if _being_decorated(cls) and name in cls.__dict__["__written__"]:
            return cls.__dict__["__written__"][name]
        return super().__getattr__(name)

    def __delattr__(cls, name: str) -> None:
        """Lets the decorator take a default away that is not there."""
        if not (_being_decorated(cls) and name in cls.__dict__["__written__"]):
            super().__delattr__(name)


def _being_decorated(cls: type) -> bool:
    return "__dataclass_params__" in cls.__dict__ and "__dataclass_shadow__" not in cls.__dict__


def _run_post_init(self: Any, context: Any) -> None:
    self.__post_init__()


def _pydantic_field(given: dataclasses.Field[Any]) -> Any:
    known = {key: given.metadata[key] for key in (*BOUNDS, *WORDS) if key in given.metadata}
    if given.default_factory is not dataclasses.MISSING:
        return pydantic.Field(default_factory=given.default_factory, **known)
    default = ... if given.default is dataclasses.MISSING else given.default
    return pydantic.Field(default, **known)


def _shadow_of(base: type) -> type:
    """The plain dataclass that says how one of the bases is made."""
    own = base.__dict__.get("__dataclass_shadow__")
    if own is not None:
        shadow: type = own
        return shadow
    plain = {"Action": plain_models.Action, "Observation": plain_models.Observation, "State": plain_models.State}
    return plain[base.__name__] if base.__module__ == __name__ and base.__name__ in plain else object


def _as_dataclass(cls: type) -> Any:
    """Makes a plain dataclass of the same fields and takes its initializer; gives the fields."""
    params: Any = cls.__dict__["__dataclass_params__"]
    written = {name: value for name, value in cls.__dict__["__written__"].items() if name in annotations_of(cls)}
    if hasattr(cls, "__post_init__"):
        # Only that there is one counts: the initializer calls that of the instance.
        written["__post_init__"] = cls.__post_init__
    bases = tuple(dict.fromkeys(_shadow_of(base) for base in cls.__mro__[1:]))
    bases = tuple(base for base in bases if base is not object)[:1]
    body = {"__annotations__": annotations_of(cls), "__module__": cls.__module__, **written}
    keywords = {key: getattr(params, key) for key in ("init", "kw_only") if hasattr(params, key)}
    shadow: Any = dataclasses.dataclass(eq=False, repr=False, **keywords)(type(cls.__name__, bases, body))
    type.__setattr__(cls, "__dataclass_shadow__", shadow)
    for name in MADE_BY_DATACLASS:
        if cls.__dict__.get(name) is getattr(BaseModel, name):
            type.__delattr__(cls, name)
    type.__setattr__(cls, "__init__", _unchecked(cls.__dict__.get("__init__", shadow.__init__)))
    type.__setattr__(cls, "__setattr__", object.__setattr__)
    type.__setattr__(cls, "__str__", object.__str__)
    return shadow.__dataclass_fields__


def _unchecked(init: Any) -> Any:
    """An initializer that sets the attributes as they are, on an instance that pydantic takes for one of its own."""

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        place = object.__setattr__
        place(self, "__pydantic_fields_set__", set())
        place(self, "__pydantic_extra__", None)
        place(self, "__pydantic_private__", None)
        init(self, *args, **kwargs)

    # What pydantic looks for, to make instances without calling it.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]
    return __init__


class Action(BaseModel, metaclass=ModelMeta):
    """What an agent does in one step. A client may send no field that it does not have."""

    model_config = FORBID

    metadata: dict[str, Any] = pydantic.Field(default_factory=dict)


class Observation(BaseModel, metaclass=ModelMeta):
    """What an agent sees after a step, with its reward, and whether the episode is over."""

    model_config = FORBID

    done: bool = False
    reward: Union[bool, int, float, None] = None
    metadata: dict[str, Any] = pydantic.Field(default_factory=dict)


class State(BaseModel, metaclass=ModelMeta):
    """Where an episode stands. Further fields may be set."""

    model_config = ALLOW

    episode_id: Union[str, None] = None
    step_count: int = pydantic.Field(default=0, ge=0)


for _model in (Action, Observation, State):
    if plain_models.KEYWORDS_ONLY:
        # So that what is derived from them knows these fields too.
        type.__setattr__(_model, "__dataclass_shadow__", _shadow_of(_model))
        for _name in ("__dataclass_fields__", "__dataclass_params__"):
            type.__setattr__(_model, _name, getattr(_shadow_of(_model), _name))
