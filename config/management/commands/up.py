"""How does the whole product start with one command? The database, then web and workers, then the demo.

One process tree: this process supervises the others (config.supervisor) and ends them all. The embedded
PostgreSQL has a keeper of its own (config.keeper); this process holds it for as long as it runs.
"""

import asyncio
import errno
import http.client
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import OperationalError, connections

from config import embedded
from config.address import own_host, own_url
from config.environment import flag
from config.supervisor import Child, Supervisor, to_standard_output

LOOK_SECONDS = 0.1
PATIENCE_SECONDS = 10.0
DATABASE_PAUSE_SECONDS = 1.0
RELEASE_SECONDS = 15.0


class Command(BaseCommand):
    help = "Starts everything: database, web, workers, and the demo. Ctrl-C ends it all."
    interrupted = False

    def handle(self, *args: Any, **options: Any) -> None:
        self.began = time.monotonic()
        self.told = ""
        signal.signal(signal.SIGINT, self.interrupt)
        try:
            refuse_taken_port(settings.HOST, settings.PORT)
            self.prepare_database()
            asyncio.run(self.supervise())
        except KeyboardInterrupt:
            raise SystemExit(130) from None
        finally:
            self.release_database()

    def interrupt(self, *_: Any) -> None:
        """Python drops an exception that meets it in a finaliser, and the Ctrl-C would be lost with it."""
        self.interrupted = True
        raise KeyboardInterrupt

    # --- the database ---------------------------------------------------------------------------------------

    def prepare_database(self) -> None:
        """Waits for as long as it takes: a server that is still starting is not an error."""
        self.tell(f"Data Pusher starts, with {database_name()}.")
        while not self.interrupted:
            try:
                call_command("migrate", interactive=False, verbosity=0)
            except OperationalError as error:
                self.tell(f"PostgreSQL can't be used yet, trying again: {first_line(error)}")
                time.sleep(DATABASE_PAUSE_SECONDS)
            else:
                return
            finally:
                connections.close_all()
        raise KeyboardInterrupt

    def release_database(self) -> None:
        connections.close_all()
        if settings.EMBEDDED and not embedded.release(
            settings.DATA_DIR, major=settings.EMBEDDED_POSTGRES, wait_seconds=RELEASE_SECONDS
        ):
            self.tell("PostgreSQL goes on: another program still uses it.")

    # --- the children ---------------------------------------------------------------------------------------

    async def supervise(self) -> None:
        supervisor = Supervisor(grace_seconds=settings.SHUTDOWN_GRACE_SECONDS)
        supervisor.obey_signals()
        environment = children_environment()
        demo = flag("DEMO", default=settings.EMBEDDED)
        if demo:
            environment |= {"DESTINATION_ALLOW": opened_for_demo()}
        for name in ("web", "worker"):
            supervisor.start(manage(name, environment, label=f"{name:<6} | "))
        announcing = asyncio.create_task(self.announce(supervisor, environment, demo=demo))
        await supervisor.until_ended()
        announcing.cancel()
        self.tell("Everything has ended.")

    async def announce(self, supervisor: Supervisor, environment: Mapping[str, str], *, demo: bool) -> None:
        await self.until_ready()
        for line in welcome(time.monotonic() - self.began, demo=demo):
            self.tell(line)
        if demo:
            supervisor.start(manage("demo", environment, ends_last=True))

    async def until_ready(self) -> None:
        complained = time.monotonic()
        while reason := await asyncio.to_thread(why_unready, settings.HOST, settings.PORT):
            if time.monotonic() - complained > PATIENCE_SECONDS:
                complained = time.monotonic()
                self.tell(f"Not ready yet: {reason}")
            await asyncio.sleep(LOOK_SECONDS)

    def tell(self, line: str) -> None:
        """A line that repeats the last one tells nothing."""
        if line != self.told:
            to_standard_output(line)
        self.told = line


def manage(name: str, environment: Mapping[str, str], *, label: str = "", ends_last: bool = False) -> Child:
    argv = (sys.executable, str(settings.BASE_DIR / "manage.py"), name)
    return Child(name, argv, environment, label=label, ends_last=ends_last)


def children_environment() -> dict[str, str]:
    """Only warnings, in lines for people, unless asked for more. Pipes have no colours."""
    environment = dict(os.environ)
    environment["PYTHONUNBUFFERED"] = "1"
    environment["LOG_LEVEL"] = environment.get("LOG_LEVEL", "").strip() or "WARNING"
    environment["LOG_FORMAT"] = environment.get("LOG_FORMAT", "").strip() or "line"
    if sys.stdout.isatty() and not environment.get("NO_COLOR"):
        environment["FORCE_COLOR"] = "1"
    return environment


def opened_for_demo() -> str:
    """What the operator allows, and the demo's own receiver: one address, one port."""
    from demo import keep  # noqa: PLC0415 - the demo is a guest: nothing else here needs it

    opening = f"{keep.HOST}/32:{keep.choose_receiver_port(settings.DATA_DIR)}"
    return ",".join((*settings.DESTINATION_ALLOW, opening))


def refuse_taken_port(host: str, port: int) -> None:
    """Raises CommandError. Asked first, so that it is one line and not web's death again and again."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            other = f"PORT={port + 1 if port < 65535 else 8000}"
            raise CommandError(
                f"Port {port} of {host} is in use. Choose another one: {other} make up"
            ) from None
        raise CommandError(f"Can't listen on port {port} of {host}: {error.strerror or error}") from None


def why_unready(host: str, port: int) -> str:
    """Empty when `/health/ready` says 200."""
    connection = http.client.HTTPConnection(own_host(host), port, timeout=5)
    try:
        connection.request("GET", "/health/ready")
        answer = connection.getresponse()
        body = answer.read()
        return "" if answer.status == 200 else "; ".join(json.loads(body)["reasons"])
    except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
        return f"web doesn't answer ({type(error).__name__})"
    finally:
        connection.close()


def welcome(seconds: float, *, demo: bool) -> list[str]:
    url = own_url(settings.HOST, settings.PORT)
    rows = [
        ("Address", f"{url}/"),
        ("Documents", f"{url}/api/docs/"),
        ("Database", database_name()),
    ]
    if not demo:
        rows.append(("Log in", f"register first: {registering(url)}"))
    return [
        f"Ready after {seconds:.1f} s. Ctrl-C ends everything.",
        *(f"  {name:<10}{value}" for name, value in rows),
        "",
    ]


def registering(url: str) -> str:
    person = """'{"email": "you@example.com", "password": "..."}'"""
    return f"curl {url}/api/v1/auth/register/ -H 'Content-Type: application/json' -d {person}"


def database_name() -> str:
    if settings.EMBEDDED:
        return f"PostgreSQL {settings.EMBEDDED_POSTGRES} of its own, in {settings.DATA_DIR}"
    server = settings.DATABASES["default"]
    return f"PostgreSQL at {server['HOST'] or 'its usual address'}, database {server['NAME']}"


def first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).strip().splitlines()[0]
