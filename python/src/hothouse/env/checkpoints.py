"""Episodes as bytes: an environment is pickled, with all that is in it.

What is read here is what was written here: the bytes of a checkpoint stay between a server and its workers.
"""

from __future__ import annotations

import copyreg
import io
import pickle
from typing import Any

BY_AUTHOR, BY_PICKLE, BY_CLOUDPICKLE = b"A", b"P", b"C"
"""The first byte of a checkpoint: what made the rest."""


class NotSupported(NotImplementedError):
    """Something that this environment cannot do."""


def pickled(env: Any) -> bytes:
    """The instance as bytes. Raises `NotSupported`, which says what cannot be pickled."""
    try:
        return BY_PICKLE + _dumped(_Pickler, env)
    except Exception as error:  # noqa: BLE001
        # Lambdas and local classes are what the other pickle can do as well.
        try:
            import cloudpickle
        except ImportError:
            why: Exception = error
        else:
            try:
                return BY_CLOUDPICKLE + _dumped(_cloud_pickler(cloudpickle), env)
            except Exception as again:  # noqa: BLE001
                why = again
        raise NotSupported(
            f"{type(env).__name__} cannot be copied, since it cannot be pickled ({type(why).__name__}: {why}): "
            "leave what cannot be pickled out in __getstate__, or write checkpoint() and restore()"
        ) from why


def unpickled(said: bytes) -> Any:
    """The instance that bytes of `pickled` hold."""
    if said[:1] == BY_PICKLE:
        return pickle.loads(said[1:])
    if said[:1] == BY_CLOUDPICKLE:
        import cloudpickle

        return cloudpickle.loads(said[1:])
    raise ValueError("these bytes are no checkpoint of an environment")


def _dumped(kind: Any, env: Any) -> bytes:
    buffer = io.BytesIO()
    kind(buffer, pickle.HIGHEST_PROTOCOL).dump(env)
    return buffer.getvalue()


class _Pickler(pickle.Pickler):
    def reducer_override(self, obj: Any) -> Any:
        """Takes objects with all that they have where they would only say how they were made."""
        return _whole(obj) if _forgets(type(obj)) else NotImplemented


def _cloud_pickler(cloudpickle: Any) -> Any:
    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
        def reducer_override(self, obj: Any) -> Any:
            """The same, over what cloudpickle does."""
            return _whole(obj) if _forgets(type(obj)) else super().reducer_override(obj)

    return Pickler


def _forgets(cls: type) -> bool:
    """True for environments of gymnasium and PettingZoo that pickle the arguments they were made with, not where they
    are: copied so, an episode would begin anew without anybody being told."""
    if isinstance(cls, type) and hasattr(cls, "__getstate__"):
        definer = next((base for base in cls.__mro__ if "__getstate__" in base.__dict__), None)
        return definer is not None and definer.__name__ == "EzPickle"
    return False


def _whole(obj: Any) -> tuple[Any, ...]:
    return copyreg.__newobj__, (type(obj),), dict(vars(obj)), None, None, _fill  # type: ignore[attr-defined]


def _fill(obj: Any, state: dict[str, Any]) -> None:
    vars(obj).update(state)
