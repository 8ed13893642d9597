"""A relay or a consumer that stops at a named point: ``crashing.py POINT SIGNAL [the relay's arguments]``."""

from __future__ import annotations

import sys

import points


def main() -> None:
    """Put the bomb in, then be the program."""
    point, bomb = sys.argv[1], points.Bomb(int(sys.argv[2]))
    if point.startswith("P"):
        from outbox.__main__ import main as outbox  # noqa: PLC0415

        points.relay(point, bomb)
        sys.argv[1:] = sys.argv[3:]
        outbox()
    else:
        import consumer_app  # noqa: PLC0415

        points.consumer(point, bomb, consumer_app)
        consumer_app.main()


if __name__ == "__main__":
    main()
