from django.apps import AppConfig


class OutboxConfig(AppConfig):
    name = "outbox"
    verbose_name = "Outbox"

    def ready(self) -> None:
        from outbox import handlers

        handlers.connect()
        # outbox.checks registers itself when the worker's room is imported
