"""The settings of the tests: ours, with an embedded server of their own when no `DATABASE_URL` is given."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

from config import embedded
from config.environment import number


def _remove(folder: str, maker: int) -> None:
    if os.getpid() == maker:  # a forked child runs this as well
        embedded.release(Path(folder), major=number("EMBEDDED_POSTGRES", 18))
        shutil.rmtree(folder, ignore_errors=True)


def _in_memory() -> str | None:
    """Where a sync costs nothing: the server syncs as always, and hundreds of copies are quick."""
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 4 << 30
    return str(memory) if roomy else None


if not os.environ.get("DATABASE_URL") and not os.environ.get("TESTS_DATA_DIR"):
    # Workers of pytest-xdist are children: they inherit the folder, and with it the server.
    folder = tempfile.mkdtemp(prefix="data-pusher-tests-", dir=_in_memory())
    os.environ["TESTS_DATA_DIR"] = folder
    atexit.register(_remove, folder, os.getpid())
if not os.environ.get("DATABASE_URL"):
    os.environ["DATA_DIR"] = os.environ["TESTS_DATA_DIR"]
os.environ.pop("DATABASE_POOL", None)
os.environ.setdefault("SECRET_KEY", "only for tests")
os.environ.setdefault("ENCRYPTION_KEYS", "k1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=")

from config.settings import *  # noqa: E402, F403 - the environment comes first

# Argon2 takes 50 ms by design; what tests ask of a hash is the same with a quick one.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher", *PASSWORD_HASHERS]  # noqa: F405
# The tests ask more often than people do; those of throttles turn them on.
THROTTLE_USER = THROTTLE_ANONYMOUS = None
