"""Finds the handlers that ``outbox consume module:handlers`` names, and says plainly what is missing.

The application's folder goes to the end of the path: a package of theirs that is called like one of ours must
not hide it.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

from outbox.errors import ConfigError, WrongEnvironment
from outbox.handlers import Handlers

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType


def handlers(target: str, folder: Path) -> Handlers[Any]:
    """Return the registry that ``target`` names.

    Args:
        target: ``package.module:name``.
        folder: where the application's modules are.

    Raises:
        ConfigError: ``target`` is not of that form, or names no ``Handlers``.
        WrongEnvironment: there is no such module, or one that it imports is missing.
    """
    module_name, _, name = target.partition(":")
    if not module_name or not name.isidentifier():
        raise ConfigError([f"{target!r} must be MODULE:NAME, such as shop.jobs:handlers"])
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    found = getattr(_imported(module_name, folder), name, None)
    if isinstance(found, Handlers):
        return found
    given = "is missing" if found is None else f"is a {type(found).__name__}"
    raise ConfigError([f"{name} in {module_name} {given}: it must be an outbox.Handlers"])


def _imported(module_name: str, folder: Path) -> ModuleType:
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not module_name.startswith(error.name):
            raise WrongEnvironment(f"{module_name} imports {error.name}, which is not installed") from None
        raise WrongEnvironment(
            f"there is no module {module_name} in {folder.resolve()} or on the path: "
            "say where it is with --app-dir"
        ) from None
