"""All the faults, in the order in which they are tried."""

from tests.faults.connections import CONNECTIONS
from tests.faults.kills import KILLS
from tests.faults.life import LIFE
from tests.faults.restores import RESTORES

FAULTS = (*KILLS, *LIFE, *RESTORES, *CONNECTIONS)
