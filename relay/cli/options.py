"""Makes the command line's options from the table of settings, and the settings from what was given.

Values are read by ``relay/config.py``, not by click, so that flags, variables and the file are judged
together and every problem is told at once.
"""

from __future__ import annotations

import inspect
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from outbox import logs
from outbox.errors import ConfigError
from relay import config, timetable, values

if TYPE_CHECKING:
    from collections.abc import Callable

    from relay.config import Settings

F = TypeVar("F", bound="Callable[..., Any]")

DATABASE: Final = ("database_url",)
RELAY: Final = (
    *("database_url", "broker_url", "heartbeat", "stale", "window", "window_bytes", "order", "exchange"),
    *("redeliver_after", "retention", "doorbell", "http", "allow_lossy", "take_over", "drain", "log"),
)
CONSUME: Final = (
    *("database_url", "broker_url", "concurrency", "prefetch", "grace", "exchange", "queue_type", "declare"),
    *("take_over", "allow_lossy", "log"),
)


app_dir = click.option(
    "--app-dir",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=Path(),
    help="Where MODULE is.  [default: the current folder]",
)


def settings(*names: str) -> Callable[[F], F]:
    """Give a command the options of these settings, and ``--config``."""

    def decorate(command: F) -> F:
        for name in reversed(names):
            command = _option(name)(command)
        where = f"Settings in TOML.  [env: OUTBOX_CONFIG; default: {config.FILE}, where there is one]"
        return click.option("--config", "file", metavar="FILE", help=where)(command)

    return decorate


def _option(name: str) -> Callable[[F], F]:
    setting = config.TABLE[name]
    dashed = name.replace("_", "-")
    variable = f"OUTBOX_{name.upper()}" + (", DATABASE_URL" if name == "database_url" else "")
    told = setting.metadata["help"]
    default = "" if setting.default in ("", None) else f"; default: {values.shown(setting.default)}"
    help_text = f"{told[0].upper()}{told[1:]}.  [env: {variable}{default}]"
    if setting.metadata["read"] is values.switch:
        flag = f"--{dashed}/--no-{dashed}" if setting.default else f"--{dashed}"
        return click.option(flag, name, is_flag=True, default=None, help=help_text)
    return click.option(f"--{dashed}", name, metavar=_metavar(name), default=None, help=help_text)


def _metavar(name: str) -> str:
    read = config.TABLE[name].metadata["read"]
    words = {
        values.duration: "SECONDS",
        values.size: "BYTES",
        values.count: "N",
        values.address: "ADDRESS:PORT",
    }
    return "URL" if name.endswith("url") else words.get(inspect.unwrap(read), "WORD")


def load(flags: dict[str, Any], *needs: str) -> Settings:
    """Return the settings of a command; ``flags`` are its keyword arguments.

    Raises:
        ConfigError: something is missing or wrong.
    """
    file = flags.pop("file", None)
    return config.load(flags, os.environ, Path(file) if file else None, needs=needs)


def with_schedules(settings: Settings, target: str, folder: Path) -> Settings:
    """Return the settings with an application's schedules beside those of the file.

    Raises:
        ConfigError: ``target`` names no schedules, or one is called like one of the file.
        WrongEnvironment: its module cannot be imported.
    """
    from relay.cli import loading  # noqa: PLC0415 - SQLAlchemy's ORM, which --help does not need

    if settings.database_url:
        os.environ["OUTBOX_DATABASE_URL"] = settings.database_url
    problems: list[str] = []
    found = timetable.distinct((*settings.schedules, *loading.schedules(target, folder)), problems)
    if problems:
        raise ConfigError(problems)
    return replace(settings, schedules=found)


def start_logging(settings: Settings) -> None:
    """Send log lines to standard error, in the form that the settings ask for."""
    machine = settings.log == "json" or (settings.log == "auto" and not sys.stderr.isatty())
    logs.configure(json_lines=machine)


def refuse_unwritable(flag: str, file: Path | None) -> None:
    """Refuse, before all the work for it is done, a file that cannot be written.

    Raises:
        ConfigError: its folder is missing, or may not be written to.
    """
    if file is not None and not os.access(file if file.exists() else file.parent, os.W_OK):
        raise ConfigError([f"{flag} {file} cannot be written: is there such a folder, and is it yours?"])


def seconds(flag: str, value: str) -> float:
    """Return a duration that is an option of one command and no setting.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        return values.duration(value)
    except ValueError as error:
        raise ConfigError([f"{flag} {error}"]) from None
