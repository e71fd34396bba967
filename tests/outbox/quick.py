"""The settings of the workers under test: ours, with deadlines so short that leases may lapse within a test."""

from tests.settings import *

DELIVERY_TIMEOUT = 1
DELIVERY_TIMEOUT_MAX = 2
