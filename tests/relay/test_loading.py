"""``outbox consume module:handlers``: what is wrong with the application, in one line."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
from failing import USAGE, WRONG, fails

if TYPE_CHECKING:
    from pathlib import Path

    from processes import Processes


@pytest.mark.parametrize(
    ("target", "code", "told"),
    [
        ("shop:nothing", USAGE, "nothing in shop is missing: it must be an outbox.Handlers"),
        ("shop:something", USAGE, "something in shop is of type int: it must be an outbox.Handlers"),
        ("shop", USAGE, "'shop' must be MODULE:NAME, such as shop.jobs:handlers"),
        ("shop:", USAGE, "'shop:' must be MODULE:NAME, such as shop.jobs:handlers"),
        ("shops:handlers", WRONG, "there is no module shops in "),
        ("shop.jobs:handlers", WRONG, "there is no module shop.jobs in "),
        ("lacking:handlers", WRONG, "lacking imports no_such_library, which is not installed"),
        ("leaving:handlers", WRONG, "leaving ends the process when it is imported: sys.exit(3)"),
        ("broken:handlers", WRONG, "broken cannot be imported: ZeroDivisionError: division by zero"),
    ],
)
def test_handlers_that_are_not_there(
    processes: Processes, shop: Path, target: str, code: int, told: str
) -> None:
    (shop / "lacking.py").write_text("import no_such_library\n")
    (shop / "leaving.py").write_text("import sys; sys.exit(3)\n")
    (shop / "broken.py").write_text("1 / 0\n")
    env = {"OUTBOX_DATABASE_URL": "postgresql+psycopg://h/d", "OUTBOX_BROKER_URL": "amqp://h"}
    assert fails(processes.outbox("consume", target, env=env, cwd=shop), code).startswith(told)


@pytest.mark.parametrize("name", ["relay", "outbox"])
def test_an_application_with_a_package_of_our_name(processes: Processes, shop: Path, name: str) -> None:
    (shop / name).mkdir()
    (shop / name / "__init__.py").touch()
    script = "import sys; sys.argv = ['outbox', *sys.argv[1:]]; from outbox.__main__ import main; main()"
    env = {"OUTBOX_DATABASE_URL": "postgresql://h/d", "OUTBOX_BROKER_URL": "amqp://h"}
    arguments = ("consume", "shop:handlers", "--app-dir", str(shop))
    line = fails(processes.start(sys.executable, "-c", script, *arguments, env=env, cwd=shop.parent), WRONG)
    assert str(shop / name) in line
    assert "--app-dir" in line


def test_another_package_that_hides_our_relay(processes: Processes, tmp_path: Path) -> None:
    (tmp_path / "relay").mkdir()
    (tmp_path / "relay" / "__init__.py").touch()
    process = processes.start(sys.executable, "-m", "outbox", "status", cwd=tmp_path)
    line = fails(process, WRONG)
    assert str(tmp_path / "relay" / "__init__.py") in line
    assert "rename it" in line


def test_the_same_command_by_three_names(processes: Processes) -> None:
    said = []
    for start in (("-m", "outbox"), ("-m", "relay"), ("-c", "from outbox.__main__ import main; main()")):
        process = processes.start(sys.executable, *start, "--help")
        assert process.wait() == 0, process.story()
        said.append(process.output)
    assert said[0] == said[1] == said[2]
    assert said[0].startswith("Usage: outbox ")
