"""Where do SECRET_KEY and ENCRYPTION_KEYS come from?

From the environment. Only the embedded start, which must work with nothing set, makes them and keeps them in
`DATA_DIR/secrets` (0600), so that a restart reads what an earlier start has encrypted.
"""

import base64
import os
import secrets
from collections.abc import Callable
from pathlib import Path

from config.environment import SettingError, text

KEY_BYTES = 32


def secret_key(data_dir: Path, *, may_create: bool) -> str:
    return text("SECRET_KEY") or _kept(data_dir, "SECRET_KEY", lambda: secrets.token_urlsafe(48), may_create)


def encryption_keys(data_dir: Path, *, may_create: bool) -> dict[str, bytes]:
    """Keys by id, the current one first: `ENCRYPTION_KEYS=id:base64,older:base64`, 32 bytes each.

    Raises SettingError on anything else.
    """
    raw = text("ENCRYPTION_KEYS") or _kept(data_dir, "ENCRYPTION_KEYS", _fresh_encryption_key, may_create)
    keys: dict[str, bytes] = {}
    for part in raw.split(","):
        key_id, _, encoded = part.strip().partition(":")
        try:
            key = base64.b64decode(encoded, validate=True)
        except ValueError:
            key = b""
        named = key_id.isascii() and key_id.isalnum() and len(key_id) <= 16 and key_id not in keys
        if not named or len(key) != KEY_BYTES:
            raise SettingError(
                "ENCRYPTION_KEYS must be id:base64 of 32 bytes, comma-separated; ids are unique, of up to 16"
                " letters and digits"
            )
        keys[key_id] = key
    return keys


def _fresh_encryption_key() -> str:
    return "k1:" + base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()


def _kept(data_dir: Path, name: str, make: Callable[[], str], may_create: bool) -> str:
    if not may_create:
        raise SettingError(f"{name} must be set when DATABASE_URL is (only the embedded start makes its own)")
    folder = data_dir / "secrets"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / name
    if not path.exists():
        draft = folder / f".{name}.{os.getpid()}"
        draft.touch(mode=0o600)
        draft.write_text(make())
        # Two first starts at once: link() lets one of them win, and both read the winner's.
        try:
            os.link(draft, path)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    return path.read_text().strip()
