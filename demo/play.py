"""How does the demo go? One pass over the real events; then it stays, and so do its receiver and its logs."""

import asyncio
import time
from collections.abc import Iterable

import httpx

from demo import curl, feeder, keep
from demo.feeder import Accepted, Event
from demo.logbook import Logbook
from demo.receiver import receiving
from demo.screen import Screen
from demo.stage import Stage
from demo.story import Story

LOOK_SECONDS = 1.0
LAST_LOGS_SECONDS = 60
FAILURES_TO_TELL = 5  # web is started again in less time
BEARER = "DEMO_BEARER"


async def play(stage: Stage, items: Iterable[Event], screen: Screen) -> None:
    """Ends only when it is cancelled."""
    story = Story(screen)
    async with (
        httpx.AsyncClient(base_url=stage.url, timeout=10, trust_env=False) as client,
        receiving(stage.port, stage.doors, story.arrived),
        asyncio.TaskGroup() as together,
    ):
        logbook = _logbook(stage, client)
        _introduce(stage, screen)
        together.create_task(_read_logs(logbook, story))
        await _feed(stage, items, client, logbook, story)
        await _until_complete(story)
        _conclude(stage, logbook.bearer, story)


def run_name() -> str:
    """No two runs share it: the seconds since 1970, to the base of 36."""
    name, seconds = "", int(time.time())
    while seconds:
        seconds, digit = divmod(seconds, 36)
        name = "0123456789abcdefghijklmnopqrstuvwxyz"[digit] + name
    return name


def _logbook(stage: Stage, client: httpx.AsyncClient) -> Logbook:
    def keep_bearer(bearer: str) -> None:
        keep.write(stage.data_dir, keep.read(stage.data_dir) | {BEARER: bearer})

    return Logbook(
        client,
        account_id=stage.account_id,
        login={"email": stage.email, "password": stage.password},
        bearer=stage.bearer,
        keep_bearer=keep_bearer,
    )


async def _feed(
    stage: Stage, items: Iterable[Event], client: httpx.AsyncClient, logbook: Logbook, story: Story
) -> None:
    async for happened in feeder.feed(
        client, items, token=stage.token, per_second=stage.pace, posting=story.posting
    ):
        story.fed(happened)
        if isinstance(happened, Accepted):
            logbook.begin(happened.received_timestamp)


async def _read_logs(logbook: Logbook, story: Story) -> None:
    failures = 0
    while True:
        try:
            for log in await logbook.news():
                story.logged(log)
            failures = 0
        except httpx.HTTPError as error:
            failures += 1
            if failures == FAILURES_TO_TELL:
                story.screen.say(f"The logs can't be read now, asking again: {_first_line(error)}")
        await asyncio.sleep(LOOK_SECONDS)


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


async def _until_complete(story: Story) -> None:
    until = time.monotonic() + LAST_LOGS_SECONDS
    while not story.is_complete() and time.monotonic() < until:  # noqa: ASYNC110 - bounded, and a person's time
        await asyncio.sleep(LOOK_SECONDS / 4)


def _introduce(stage: Stage, screen: Screen) -> None:
    screen.say("The demo: an account with three destinations, which gets 326 real events from GitHub.")
    screen.table(
        (
            ("e-mail", stage.email),
            ("password", stage.password),
            ("token", stage.token),
            ("kept in", str(keep.path(stage.data_dir))),
            (
                "receiver",
                f"http://{keep.HOST}:{stage.port}, checks every signature, refuses some first tries",
            ),
        )
    )
    _offer(stage, stage.bearer, screen)


def _conclude(stage: Stage, bearer: str, story: Story) -> None:
    story.screen.say()
    story.screen.say(f"The demo is through: {story.summary()}")
    _offer(stage, bearer, story.screen)


def _offer(stage: Stage, bearer: str, screen: Screen) -> None:
    event_id = f"mine-{run_name()}"
    screen.say("Post an event of your own in a second terminal, and read its log:")
    screen.command(curl.post(stage.url, stage.token, event_id))
    screen.command(curl.read_log(stage.url, bearer, stage.account_id, event_id))
    screen.say()
