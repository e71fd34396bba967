from django.apps import AppConfig


class OutboxConfig(AppConfig):
    name = "outbox"
    verbose_name = "Outbox"

    def ready(self) -> None:
        from outbox import checks, handlers  # noqa: F401, PLC0415 - models are ready only now; checks register

        handlers.connect()
