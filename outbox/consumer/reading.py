"""Understands a message of py-amqp, or of one of kombu's virtual transports. Speaks to no broker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from outbox.runner.delivery import delivery

if TYPE_CHECKING:
    from outbox.runner.delivery import Delivery


def understood(message: Any, *, amqp: bool, queue: str, generation: int) -> Delivery:
    """Return what came as a delivery.

    Args:
        message: Of the broker's library.
        amqp: Whether that is py-amqp.
        queue: Where it came from.
        generation: Of the connection that it came on.
    """
    info = message.delivery_info
    properties = dict(message.properties)
    if amqp:
        headers = properties.get("application_headers") or {}
        redelivered = bool(info.get("redelivered"))
    else:
        headers = dict(message.headers)
        properties["content_type"] = message.content_type
        properties["content_encoding"] = message.content_encoding
        redelivered = bool(headers.pop("redelivered", False) or message._raw.get("redelivered"))  # noqa: SLF001
    return delivery(
        body=message.body,
        properties=properties,
        headers=headers,
        queue=queue,
        routing_key=str(info.get("routing_key") or ""),
        redelivered=redelivered,
        tag=message.delivery_tag,
        generation=generation,
    )
