"""Settings from flags, variables, the file and defaults; every problem at once."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from outbox.errors import ConfigError
from relay import cli, config, values
from relay.cli import options
from relay.config import Route, Settings

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

DATABASE = "postgresql://u:canary-1@h/d"
BROKER = "amqp://u:canary-2@h//"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in an empty folder and an environment without settings of ours."""
    monkeypatch.chdir(tmp_path)
    for name in os.environ:
        if name.startswith("OUTBOX_") or name == "DATABASE_URL":
            monkeypatch.delenv(name)


def problems(
    flags: Mapping[str, object], environ: Mapping[str, str] | None = None, **more: object
) -> tuple[str, ...]:
    """Return what is wrong with these settings."""
    with pytest.raises(ConfigError) as caught:
        config.load(flags, environ or {}, **more)  # type: ignore[arg-type]
    return caught.value.problems


def test_without_anything_the_defaults_hold() -> None:
    assert config.load({}, {}) == Settings()


def test_the_defaults_are_those_of_the_design() -> None:
    found = Settings()
    assert (found.heartbeat, found.stale, found.window, found.window_bytes) == (1.0, 8.0, 1000, 8_000_000)
    assert (found.redeliver_after, found.retention, found.grace) == (600.0, 7 * 86_400.0, 25.0)
    assert (found.concurrency, found.prefetch, found.order) == (8, None, "strict")


def test_a_flag_beats_a_variable_beats_the_file_beats_the_default(tmp_path: Path) -> None:
    (tmp_path / "outbox.toml").write_text("stale = 20\nwindow = 20\nheartbeat = 2\n")
    environ = {"OUTBOX_STALE": "30", "OUTBOX_WINDOW": "30"}
    found = config.load({"stale": "40"}, environ)
    assert (found.stale, found.window, found.heartbeat, found.grace) == (40.0, 30, 2.0, 25.0)


def test_our_variable_for_the_database_beats_the_common_one() -> None:
    environ = {"DATABASE_URL": "postgresql://common/d", "OUTBOX_DATABASE_URL": "postgresql://ours/d"}
    assert config.load({}, environ).database_url == "postgresql://ours/d"
    assert config.load({}, {"DATABASE_URL": "postgres://common/d"}).dsn == "postgresql://common/d"


def test_an_empty_variable_is_not_set() -> None:
    assert config.load({}, {"OUTBOX_STALE": "", "DATABASE_URL": ""}) == Settings()


def test_a_variable_that_is_almost_ours_is_told() -> None:
    with pytest.raises(ConfigError, match=r"OUTBOX_WINDW is no setting; did you mean OUTBOX_WINDOW\?"):
        config.load({}, {"OUTBOX_WINDW": "3"})


@pytest.mark.parametrize(
    "name", ["OUTBOX_DEBUG", "OUTBOX_CONFIG", "OUTBOX_WAIT", "OUTBOX_HTTP_PORT", "OUTBOX_SCHEDULES", "OUTBX"]
)
def test_a_variable_of_somebody_else_is_left_alone(name: str) -> None:
    assert config.load({}, {name: "3", **({"OUTBOX_CONFIG": ""} if name == "OUTBOX_CONFIG" else {})})


def test_every_problem_is_reported_at_once(tmp_path: Path) -> None:
    (tmp_path / "outbox.toml").write_text(
        'windw = 5\nheartbeat = "soon"\n[[routes]]\nexchnge = "x"\nmax_bytes = 0\n'
    )
    found = problems(
        {"window": "many", "order": "random"},
        {"OUTBOX_DOORBELL": "perhaps"},
        needs=("broker_url", "database_url"),
    )
    assert found == (
        "route 1 in outbox.toml: exchnge is no key; did you mean exchange?",
        "route 1 in outbox.toml: max_bytes must be a size such as 8000000, 8MB or 128KiB, not 0",
        'route 1 in outbox.toml: match is missing (match = "mail.*")',
        "windw is no setting; did you mean window?",
        "heartbeat in outbox.toml must be a duration such as 10, 1.5s, 10m, 2h or 7d, not 'soon'",
        "OUTBOX_DOORBELL must be true or false, not 'perhaps'",
        "--window must be a whole number, 1 or more, not 'many'",
        "--order must be strict, pipelined or serial, not 'random'",
        "--broker-url (or OUTBOX_BROKER_URL) is missing",
        "--database-url (or OUTBOX_DATABASE_URL) is missing",
    )


def test_a_leader_must_stop_before_others_may_replace_it() -> None:
    (told,) = problems({"stale": "5"})
    assert told == ("stale must be more than 5 s when heartbeat is 1 s (heartbeat + 2 < 0.6 x stale), not 5")
    assert config.load({"stale": "5.1"}, {}).stale == 5.1
    assert problems({"heartbeat": "0"}) == ("heartbeat must be more than 0",)


def test_a_wrong_address_is_told_without_its_secret() -> None:
    found = problems({"database_url": "mysql://u:canary@h/d", "broker_url": "sqs://k:canary@h"})
    assert len(found) == 2
    assert "canary" not in "".join(found)
    assert problems({"database_url": 7}) == ("--database-url must be text",)


def test_settings_do_not_show_their_addresses() -> None:
    assert "canary" not in repr(config.load({"database_url": DATABASE, "broker_url": BROKER}, {}))


def test_an_empty_address_is_a_missing_one() -> None:
    missing = ("--broker-url (or OUTBOX_BROKER_URL) is missing",)
    assert problems({"broker_url": ""}, needs=("broker_url",)) == missing


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("window", "99999999999999999999", "--window must be at most 100000, not '99999999999999999999'"),
        ("window_bytes", "2000MB", "--window-bytes must be at most 1000000000, not '2000MB'"),
        ("prefetch", 65_536, "--prefetch must be at most 65535, not 65536"),
        ("concurrency", 10_001, "--concurrency must be at most 10000, not 10001"),
        ("grace", "400000d", "--grace must be at most 365000d, not '400000d'"),
    ],
)
def test_a_number_has_an_upper_bound(name: str, value: object, told: str) -> None:
    assert problems({name: value}) == (told,)


def test_routes(tmp_path: Path) -> None:
    (tmp_path / "outbox.toml").write_text(
        """
        exchange = "shop"
        [[routes]]
        match = "mail.*"
        exchange = ""
        routing_key = "mails"
        [[routes]]
        match = "report.*"
        max_bytes = "1MiB"
        """
    )
    found = config.load({}, {})
    assert found.exchange == "shop"
    assert found.routes == (Route("mail.*", "", "mails"), Route("report.*", max_bytes=1_048_576))


def test_schedules(tmp_path: Path) -> None:
    (tmp_path / "outbox.toml").write_text(
        """
        [[schedules]]
        name = "nightly"
        cron = "30 2 * * *"
        zone = "Europe/Berlin"
        kind = "report.build"
        payload = { days = 1, since = 2026-11-01 }
        misfire = "all(3)"
        [[schedules]]
        name = "tick"
        cron = "@hourly"
        kind = "tick"
        """
    )
    nightly, tick = config.load({}, {}).schedules
    assert (nightly.name, nightly.cron.zone, nightly.misfire) == ("nightly", "Europe/Berlin", "all(3)")
    assert nightly.job == {"kind": "report.build", "payload": b'{"days":1,"since":"2026-11-01"}'}
    assert (tick.name, tick.cron.zone, tick.misfire, tick.job["payload"]) == ("tick", "UTC", "latest", b"{}")


def test_what_is_wrong_with_schedules_is_told_all_at_once(tmp_path: Path) -> None:
    (tmp_path / "outbox.toml").write_text(
        """
        [[schedules]]
        name = "a"
        cron = "* * *"
        kind = "k"
        [[schedules]]
        nam = "b"
        kind = "k"
        [[schedules]]
        name = "c"
        cron = "@daily"
        kind = "k"
        misfire = "always"
        [[schedules]]
        name = "d"
        cron = "@daily"
        kind = "k"
        [[schedules]]
        name = "d"
        cron = "@daily"
        kind = "k"
        """
    )
    assert problems({}) == (
        "schedule 1 (a): '* * *' is no cron expression: five fields, or six with seconds in front",
        "schedule 2: nam is no key (there are name, cron, kind, payload, zone, misfire)",
        "schedule 2: name is missing",
        "schedule 2: cron is missing",
        "schedule 3 (c): misfire is 'always': skip, latest, or all(n) with n from 1 to 1000",
        "there are two schedules called 'd'",
    )
    (tmp_path / "outbox.toml").write_text("schedules = 5")
    assert problems({}) == ("schedules must be written as [[schedules]]",)


def test_a_file_that_is_named_must_exist_and_be_toml(tmp_path: Path) -> None:
    missing = tmp_path / "there.toml"
    assert problems({}, file=missing) == (f"{missing} does not exist",)
    assert problems({}, {"OUTBOX_CONFIG": str(missing)}) == (f"{missing} does not exist",)
    missing.write_text("stale = ")
    (told,) = problems({}, file=missing, needs=("broker_url",))
    assert told.startswith(f"{missing} cannot be read: ")
    missing.write_text('routes = "mail"')
    assert problems({}, file=missing) == ("routes must be written as [[routes]]",)


def test_no_setting_has_a_name_that_kubernetes_sets() -> None:
    for name in config.TABLE:
        assert not re.search(r"(^|_)(port|host)$", name), name


@pytest.mark.parametrize(("command", "names"), [("relay", options.RELAY), ("consume", options.CONSUME)])
def test_help_shows_every_setting_with_its_variable_and_default(command: str, names: tuple[str, ...]) -> None:
    shown = CliRunner().invoke(
        cli.cli, [command, "--help"], prog_name="outbox", terminal_width=300, max_content_width=300
    )
    lines = {line.split()[0]: line for line in shown.output.splitlines() if line.strip().startswith("--")}
    for name in names:
        line = lines[f"--{name.replace('_', '-')}"]
        default = getattr(Settings(), name)
        assert f"env: OUTBOX_{name.upper()}" in line
        if default not in ("", None):
            assert line.endswith(f"default: {values.shown(default)}]"), line
