"""The first signal lets a server finish, the second ends it at once."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from helpers import eventually

if TYPE_CHECKING:
    from databases import Database
    from processes import Process, Processes

ROOT = Path(__file__).parents[2]
STOPPED = """
import pathlib, sys, threading

class Stop:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            pathlib.Path(__file__).with_name("here").touch()
            threading.Event().wait(30)

sys.meta_path.insert(0, Stop())
"""
SLOW = """
import os, pathlib, threading
import outbox
from sqlalchemy import create_engine
from sqlalchemy.orm import sessionmaker

handlers = outbox.Handlers("slow", session=sessionmaker(create_engine(os.environ["OUTBOX_DATABASE_URL"])))


@handlers("slow")
def slow(job, session):
    pathlib.Path("begun").touch()
    while not pathlib.Path("go").exists():
        threading.Event().wait(0.02)
"""


@pytest.mark.parametrize("module", ["outbox.__main__", "click"])
def test_ctrl_c_while_it_is_imported_shows_no_traceback(
    processes: Processes, tmp_path: Path, module: str
) -> None:
    """A hook stops the import at this module until the signal is there, as a slow disk would."""
    (tmp_path / "sitecustomize.py").write_text(STOPPED.format(module=module))
    process = processes.start(
        sys.executable, "-m", "relay", "status", env={"PYTHONPATH": f"{tmp_path}:{ROOT}"}
    )
    eventually((tmp_path / "here").exists)
    process.signal(signal.SIGINT)
    assert process.wait() == -signal.SIGINT, process.story()
    assert process.errors == []


def at_work(processes: Processes, database: Database, amqp_url: str, folder: Path) -> Process:
    """Return a consumer whose handler is at work, and goes on until there is a file called go."""
    (folder / "shop.py").write_text(SLOW)
    env = {"OUTBOX_DATABASE_URL": database.url, "OUTBOX_BROKER_URL": amqp_url}
    consumer = processes.outbox("consume", "shop:handlers", env=env, cwd=folder)
    consumer.wait_event("consumer_started")
    database.execute("SELECT outbox.add('slow', '1')")
    relay = processes.outbox("relay", env=env, cwd=folder)
    eventually((folder / "begun").exists)
    relay.terminate()
    assert relay.wait() == 0, relay.story()
    return consumer


def test_the_first_signal_lets_a_handler_finish(
    processes: Processes, database: Database, amqp_url: str, tmp_path: Path
) -> None:
    consumer = at_work(processes, database, amqp_url, tmp_path)
    consumer.terminate()
    (tmp_path / "go").touch()
    assert consumer.wait() == 0, consumer.story()
    assert database.value("SELECT state FROM outbox.job") == "succeeded"


def test_the_second_signal_does_not_wait_for_it(
    processes: Processes, database: Database, amqp_url: str, tmp_path: Path
) -> None:
    consumer = at_work(processes, database, amqp_url, tmp_path)
    consumer.terminate()
    consumer.signal(signal.SIGINT)
    assert consumer.wait(5) in {128 + signal.SIGINT, 128 + signal.SIGTERM}, consumer.story()
    assert database.value("SELECT state FROM outbox.job") == "published", "it comes again"
