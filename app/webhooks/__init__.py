"""Webhooks: a dispatcher finds deliveries that are due, a sender posts one attempt."""

from app.webhooks.dispatcher import Dispatcher
from app.webhooks.sender import Sender

__all__ = ["Dispatcher", "Sender"]
