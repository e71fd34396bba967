"""How are browsers' sessions kept? In the database, under keys that only we make (`SESSION_ENGINE`)."""

from django.contrib.sessions.backends import db


class SessionStore(db.SessionStore):
    """A cookie that can't be a key (it may hold a NUL, written in octal) is as good as none."""

    def __init__(self, session_key: str | None = None) -> None:
        possible = session_key is not None and session_key.isascii() and session_key.isalnum()
        super().__init__(session_key if possible else None)
