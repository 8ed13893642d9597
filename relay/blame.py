"""What a broker's error says of the messages in flight: whom it names, or who was alone on the way.

An error of one call says nothing about the message of that call. Nobody is blamed by guess: the rest is
unknown and stays pending.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from relay.routes import Routes
    from relay.side import Refusal
    from relay.window import Window

REFUSES_ROW: Final = frozenset({406, 501})
"""Codes with which a broker refuses one message for what it is: too large, a property it does not allow."""
REFUSES_WAY: Final = frozenset({403, 404})
"""Codes with which it refuses the way: no such exchange, no right to write. No job is to blame, or buried."""
NAMED: Final = re.compile(r"exchange '(.*?)' in vhost")
"""How RabbitMQ names the exchange in its refusal: whose messages went that way is known without a search."""


def told(error: BaseException) -> str:
    """Return an error in one line, in the broker's words where it had any."""
    code, text = getattr(error, "reply_code", 0), getattr(error, "reply_text", None)
    return " ".join((f"{code} {text}" if code else f"{type(error).__name__}: {error}").split())


def blame(error: BaseException, window: Window, routes: Routes) -> bool:
    """Settle what the end of the shared channel, or of the connection, can be blamed on.

    Returns:
        Whether it was one of the messages in flight and nobody knows which: they are to be sent singly.
    """
    code = getattr(error, "reply_code", 0)
    if code in REFUSES_WAY:
        return not _blame_way(error, window, routes)
    if code not in REFUSES_ROW:
        return False
    only = window.only
    if only is not None:
        window.refused(only, told(error))
    return only is None


def _blame_way(error: BaseException, window: Window, routes: Routes) -> bool:
    named = NAMED.search(str(getattr(error, "reply_text", "")))
    tags = [
        tag
        for tag, row in window.flights()
        if tag > 0 and named is not None and routes.way(row).exchange == named[1]
    ]
    if not tags and window.only is not None:
        tags = [window.only]
    for tag in tags:
        window.turned_away(tag, told(error))
    return bool(tags)


def blame_probe(refusal: Refusal, window: Window, tag: int) -> None:
    """Settle a message that was alone on a channel of its own."""
    if refusal.code in REFUSES_ROW:
        window.refused(tag, str(refusal))
    else:
        window.turned_away(tag, str(refusal))
