"""The product's own settings with short deadlines: for commands that tests start."""

from config.settings import *  # noqa: F403

DELIVERY_TIMEOUT = 1
DELIVERY_TIMEOUT_MAX = 2
