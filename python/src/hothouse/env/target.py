"""What is to be served, by its name.

`package.module:Name` (an Environment class, a factory, or an app), `gym:CartPole-v1`,
`pettingzoo:classic/tictactoe_v3`, or a directory with `openenv.yaml`.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import typing
from pathlib import Path
from types import ModuleType
from typing import Any, Optional

from .app import App
from .environment import Environment

DEFAULT_APP = "server.app:app"
DEFAULT_ATTRIBUTE = "app"
MANIFEST = "openenv.yaml"
BEYOND = "attempted relative import beyond top-level package"
"""What Python says of `from ..models` in a module that was imported as `server.app`."""


class TargetInvalid(ValueError):
    """A target that names nothing that can be served."""


def app_of(target: str) -> App:
    """The app of a target. What goes wrong in the author's modules is raised as it is."""
    if target.startswith("gym:"):
        from .gymnasium_environment import app_of_gymnasium

        return app_of_gymnasium(target[len("gym:") :])
    if target.startswith("pettingzoo:"):
        from .pettingzoo_environment import app_of_pettingzoo

        return app_of_pettingzoo(target[len("pettingzoo:") :])
    if Path(target).is_dir():
        return app_of_directory(Path(target))
    return app_of_spec(target)


def app_of_spec(spec: str) -> App:
    """The app that `package.module:Name` names."""
    module_name, _, attribute = spec.partition(":")
    if not module_name or "/" in spec:
        raise TargetInvalid(
            f"{spec!r} is neither package.module:Name, gym:ID, pettingzoo:family/name_vN, nor a directory that exists"
        )
    # What lies where the worker was started is found, as with `python -m`.
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    return app_from(imported(module_name), attribute or DEFAULT_ATTRIBUTE)


def imported(module_name: str) -> ModuleType:
    """A module of an environment, by the name that it has in its directory.

    Some are written to be started there, others beside it, as `DIRECTORY.MODULE`, and import what is above them; their
    `openenv.yaml` says the same.
    """
    try:
        return importlib.import_module(module_name)
    except ImportError as error:
        if BEYOND not in str(error):
            raise
        top = module_name.partition(".")[0]
        # What was imported on the way is there a second time otherwise, as another class.
        for known in [each for each in sys.modules if each.partition(".")[0] == top]:
            del sys.modules[known]
        found = importlib.util.find_spec(top)
        places = list(found.submodule_search_locations or []) if found is not None else []
        if not places:
            raise
        directory = Path(places[0]).parent
        if str(directory.parent) not in sys.path:
            sys.path.append(str(directory.parent))
        return importlib.import_module(f"{directory.name}.{module_name}")


def app_from(module: ModuleType, attribute: str) -> App:
    """The app of what a module calls so."""
    found: Any = module
    for name in attribute.split("."):
        if not hasattr(found, name):
            raise TargetInvalid(f"{module.__name__} has no {attribute!r}")
        found = getattr(found, name)
    if isinstance(found, App):
        return found
    if not isinstance(found, type) and hasattr(found, "routes"):
        raise TargetInvalid(
            f"{module.__name__}:{attribute} is an application of {type(found).__module__.partition('.')[0]}: "
            "make it with create_app of hothouse.env, or serve it as an image"
        )
    if not callable(found) and not isinstance(found, Environment):
        raise TargetInvalid(f"{module.__name__}:{attribute} is neither an app nor an environment, but {found!r}")
    action_cls, observation_cls = models_of(found)
    return App(found, action_cls, observation_cls)


def models_of(env: Any) -> tuple[Optional[Any], Optional[Any]]:
    """The classes of action and observation, by the annotations of `step`, else by what the class is derived from."""
    cls = env if isinstance(env, type) else App(env).environment_cls()
    step = next((getattr(cls, name) for name in ("step", "step_async") if written(cls, name)), None)
    try:
        hints = typing.get_type_hints(step) if step is not None else {}
    except NameError:
        # Types that are only known where the class was written.
        hints = {}
    observation = hints.pop("return", None)
    action = next(iter(hints.values()), None)
    if action is None or isinstance(action, typing.TypeVar):
        for base in cls.__mro__:
            for origin in base.__dict__.get("__orig_bases__", ()):
                arguments = typing.get_args(origin)
                if len(arguments) >= 2 and isinstance(arguments[0], type):
                    return arguments[0], arguments[1]
        action = None
    return action, None if isinstance(observation, typing.TypeVar) else observation


def written(cls: type, name: str) -> bool:
    """True when an author has written the method, not only `Environment`."""
    return hasattr(cls, name) and getattr(cls, name) is not getattr(Environment, name, None)


def app_of_directory(directory: Path) -> App:
    """The app of a directory with `openenv.yaml`, which is a package or holds one's modules."""
    directory = directory.resolve()
    manifest = manifest_of(directory)
    spec = str(manifest.get("app") or DEFAULT_APP)
    module_name, _, attribute = spec.partition(":")
    package = directory.name
    for place in (str(directory.parent), str(directory)):
        if place in sys.path:
            sys.path.remove(place)
        sys.path.insert(0, place)
    module = _imported(directory, package, module_name)
    app = app_from(module, attribute or DEFAULT_ATTRIBUTE)
    if app.env_name is None and manifest.get("name"):
        app.env_name = str(manifest["name"])
    return app


def _imported(directory: Path, package: str, module_name: str) -> ModuleType:
    """The module, within its package where it can be, so that its relative imports work."""
    if module_name.partition(".")[0] == package or not _is_package(directory, package):
        return importlib.import_module(module_name)
    try:
        return importlib.import_module(f"{package}.{module_name}")
    except ImportError as qualified:
        try:
            return importlib.import_module(module_name)
        except ImportError:
            raise qualified from None


def _is_package(directory: Path, package: str) -> bool:
    if not package.isidentifier():
        return False
    found = importlib.util.find_spec(package)
    places = list(found.submodule_search_locations or []) if found is not None else []
    return any(Path(place).resolve() == directory for place in places)


def manifest_of(directory: Path) -> dict[str, Any]:
    """What `openenv.yaml` of a directory says."""
    path = directory / MANIFEST
    if not path.is_file():
        raise TargetInvalid(f"{directory} has no {MANIFEST}")
    try:
        import yaml
    except ImportError as error:
        raise TargetInvalid(f"to read {path}, install PyYAML: pip install 'hothouse[env]'") from error
    try:
        manifest = yaml.safe_load(path.read_text("utf-8"))
    except yaml.YAMLError as error:
        raise TargetInvalid(f"{path} is no YAML: {error}") from error
    if not isinstance(manifest, dict):
        raise TargetInvalid(f"{path} has to be a mapping with name and app")
    return manifest
