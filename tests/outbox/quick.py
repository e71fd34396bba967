"""The settings of the workers under test: ours, with deadlines so short that leases lapse within a test."""

from tests.settings import *  # noqa: F403 - as tests.settings itself does

DELIVERY_TIMEOUT = 1
DELIVERY_TIMEOUT_MAX = 2
