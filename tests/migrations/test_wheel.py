"""What is shipped: the migrations are inside ``outbox/``, and nothing of ours is in another's place."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hatchling.builders.wheel import WheelBuilder
from releases import ROOT

if TYPE_CHECKING:
    from databases import Database
    from processes import Processes


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel as it is built for a release."""
    folder = tmp_path_factory.mktemp("wheel")
    (built,) = WheelBuilder(str(ROOT)).build(directory=str(folder), versions=["standard"])
    return Path(built)


def test_the_wheel_holds_the_migrations_and_no_alembic_of_its_own(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert "outbox/migrations/env.py" in names
    assert "outbox/migrations/script.py.mako" in names
    assert "outbox/migrations/versions/0001_outbox.py" in names
    assert {name.split("/")[0] for name in names if "dist-info" not in name} == {"outbox", "relay"}
    assert {"outbox/py.typed", "relay/py.typed"} <= set(names)


def test_the_wheel_migrates_without_the_checkout(
    wheel: Path, empty_database: Database, processes: Processes, tmp_path: Path
) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    env = {"PYTHONPATH": str(tmp_path / "site"), "OUTBOX_DATABASE_URL": empty_database.dsn}
    process = processes.outbox("migrate", env=env)
    assert process.wait() == 0, process.story()
    assert "applying 0001" in process.output
    where = processes.start(
        sys.executable, "-c", "import outbox.schema; print(outbox.schema.folder())", env=env
    )
    assert where.wait() == 0
    assert where.output.strip() == str(tmp_path / "site" / "outbox" / "migrations")


def test_the_folder_of_the_migrations_is_no_package() -> None:
    assert not (ROOT / "alembic" / "__init__.py").exists()
    assert not (ROOT / "alembic" / "versions" / "__init__.py").exists()
