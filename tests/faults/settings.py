"""The product's own settings with short deadlines, so that leases lapse within seconds; and crash points."""

from config.settings import *  # noqa: F403

DELIVERY_TIMEOUT = 1
DELIVERY_TIMEOUT_MAX = 2
INSTALLED_APPS = [*INSTALLED_APPS, "tests.faults.crashpoints.CrashPoints"]  # noqa: F405
