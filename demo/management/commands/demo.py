"""`manage.py demo`: show the product at work. `manage.py up` runs it beside web and worker."""

import asyncio
import signal
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand
from django.db import connections

from config.address import own_url
from demo import feeder, stage
from demo.play import play, run_name
from demo.screen import Screen


class Command(BaseCommand):
    help = "Feeds a demo account with real events, receives them, and reads their logs. Needs web and worker."

    def handle(self, *args: Any, **options: Any) -> None:
        ready = stage.prepare(settings.DATA_DIR, url=own_url(settings.HOST, settings.PORT))
        connections.close_all()  # from here on it is a client like any other
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            asyncio.run(play(ready, feeder.events(run_name()), Screen()))
        except KeyboardInterrupt:
            return
