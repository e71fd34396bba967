"""All the faults, in the order in which they are tried."""

from tests.faults.connections import CONNECTIONS
from tests.faults.kills import KILLS

FAULTS = (*KILLS, *CONNECTIONS)
