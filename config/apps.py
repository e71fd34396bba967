from django.apps import AppConfig
from django.conf import settings

from config import reporting


class ConfigConfig(AppConfig):
    name = "config"
    verbose_name = "Configuration"

    def ready(self) -> None:
        reporting.begin(dsn=settings.SENTRY_DSN, environment=settings.SENTRY_ENVIRONMENT)
