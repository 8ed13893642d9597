"""Finds the handlers, or the schedules, that a command names as ``module:name``; says what is missing.

The application's folder goes to the end of the path: a package of theirs that is called like one of ours must
not hide it.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any, TypeVar

import outbox
import relay
from outbox.errors import ConfigError, OutboxError, WrongEnvironment

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

    from outbox import Handlers, Schedules

T = TypeVar("T")


def handlers(target: str, folder: Path) -> Handlers[Any]:
    """Return the handlers that ``target`` names. Args and errors as in ``schedules``."""
    return _named(target, folder, outbox.Handlers)


def schedules(target: str, folder: Path) -> Schedules:
    """Return the schedules that ``target`` names.

    Args:
        target: ``package.module:name``.
        folder: where the application's modules are.

    Raises:
        ConfigError: ``target`` is not of that form, or names something else.
        WrongEnvironment: there is no such module, one that it imports is missing, it fails, or the folder has
            a package that is called like one of ours.
    """
    return _named(target, folder, outbox.Schedules)


def _named(target: str, folder: Path, kind: type[T]) -> T:
    module_name, _, name = target.partition(":")
    if not module_name or not name.isidentifier():
        raise ConfigError([f"{target!r} must be MODULE:NAME, such as shop.jobs:{kind.__name__.lower()}"])
    _refuse_namesakes(folder)
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    found = getattr(_imported(module_name, folder), name, None)
    if isinstance(found, kind):
        return found
    given = "is missing" if found is None else f"is of type {type(found).__name__}"
    raise ConfigError([f"{name} in {module_name} {given}: it must be an outbox.{kind.__name__}"])


def _refuse_namesakes(folder: Path) -> None:
    """Refuse an application with a package that it would not get by its name, because ours has it first."""
    for ours in (outbox, relay):
        name = ours.__name__
        for theirs in (folder / name / "__init__.py", folder / f"{name}.py"):
            if theirs.exists() and not theirs.samefile(str(ours.__file__)):
                raise WrongEnvironment(
                    f"{theirs.resolve()} is called like the {name} of outbox-relay, which hides it: "
                    "rename it, or name another folder with --app-dir"
                )


def _imported(module_name: str, folder: Path) -> ModuleType:
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if f"{module_name}.".startswith(f"{error.name}."):
            raise WrongEnvironment(
                f"there is no module {module_name} in {folder.resolve()} or on the path: "
                "say where it is with --app-dir"
            ) from None
        raise WrongEnvironment(f"{module_name} imports {error.name}, which is not installed") from error
    except OutboxError:
        raise
    except SystemExit as error:
        raise WrongEnvironment(
            f"{module_name} ends the process when it is imported: sys.exit({error.code!r})"
        ) from error
    except Exception as error:
        words = f"{type(error).__name__}: {error}; OUTBOX_DEBUG=1 shows where"
        raise WrongEnvironment(f"{module_name} cannot be imported: {words}") from error
