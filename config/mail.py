"""How does mail leave? Through a server when one is named, else by the backend (printed by default)."""

from typing import Any

from config.environment import flag, number, text

SECONDS = 10


def mailer() -> dict[str, Any]:
    """Django's entry in MAILERS."""
    host = text("EMAIL_HOST")
    if not host:
        return {"BACKEND": text("EMAIL_BACKEND", "django.core.mail.backends.console.EmailBackend")}
    options = {
        "host": host,
        "port": number("EMAIL_PORT", 587, low=1, high=65535),
        "username": text("EMAIL_USER"),
        "password": text("EMAIL_PASSWORD"),
        "use_tls": flag("EMAIL_STARTTLS", default=True),
        "timeout": SECONDS,
    }
    return {"BACKEND": "django.core.mail.backends.smtp.EmailBackend", "OPTIONS": options}
