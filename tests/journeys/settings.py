"""The product's own settings, with destinations on loopback and short deadlines: for commands that tests start."""

from config.settings import *  # noqa: F403

DELIVERY_TIMEOUT = 1
DELIVERY_TIMEOUT_MAX = 2
