"""Is the demo's stage set once, found again, and mended where something was taken away?"""

import pytest

from accounts import operations, queries
from accounts.operations import NotFound
from demo import keep, stage
from demo.stage import PLANS, Stage, prepare

pytestmark = pytest.mark.django_db
URL = "http://127.0.0.1:8000"


@pytest.fixture(autouse=True)
def on_loopback(settings, tmp_path):
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    settings.DESTINATION_ALLOW = [f"{keep.HOST}/32:{keep.receiver_port(tmp_path)}"]


def destinations(of: Stage):
    return {one.url.rpartition("/")[2]: one for one in queries.destinations_of(of.account_id)}


def remembering(data_dir, **changed: str) -> None:
    keep.write(data_dir, keep.read(data_dir) | changed)


def test_the_first_start_makes_everything_and_writes_it_down(tmp_path) -> None:
    made = prepare(tmp_path, url=URL)

    kept = keep.read(tmp_path)
    assert (kept["DEMO_URL"], kept["DEMO_TOKEN"], kept["DEMO_EMAIL"]) == (URL, made.token, made.email)
    assert operations.log_in(email=made.email, password=made.password)
    assert queries.user_of_bearer(made.bearer).email == made.email == stage.EMAIL
    found = destinations(made)
    assert {name: one.http_method for name, one in found.items()} == {
        "post": "POST",
        "get": "GET",
        "moody": "PUT",
    }
    assert found["moody"].retry_schedule_seconds == [2, 5, 15]
    assert {name: door.moody for name, door in made.doors.items()} == {
        "post": False,
        "get": False,
        "moody": True,
    }
    assert made.pace == 2.5


def test_the_next_start_finds_all_of_it_again_and_changes_nothing(tmp_path) -> None:
    made = prepare(tmp_path, url=URL)
    before = {one.pk: one.revision for one in queries.destinations_of(made.account_id)}

    assert prepare(tmp_path, url=URL) == made
    assert {one.pk: one.revision for one in queries.destinations_of(made.account_id)} == before


def test_what_was_deleted_paused_or_switched_off_is_made_good(tmp_path) -> None:
    made = prepare(tmp_path, url=URL)
    actor = queries.user_of_bearer(made.bearer)
    found = {name: {"actor": actor, "account_id": made.account_id, "destination_id": one.pk}
             for name, one in destinations(made).items()}  # fmt: skip
    operations.delete_destination(**found["post"])
    operations.pause_destination(**found["get"])
    operations.update_destination(**found["moody"], changes={"active": False, "retry_schedule_seconds": [9]})

    again = prepare(tmp_path, url=URL)

    assert again.doors["post"].secret != made.doors["post"].secret
    assert (again.doors["get"], again.doors["moody"]) == (made.doors["get"], made.doors["moody"])
    assert all(one.active and not one.paused for one in destinations(again).values())
    assert destinations(again)["moody"].retry_schedule_seconds == [2, 5, 15]
    assert len(destinations(again)) == len(PLANS)


def test_a_receiver_that_had_to_move_is_found_at_its_new_port(tmp_path, settings) -> None:
    made = prepare(tmp_path, url=URL)
    remembering(tmp_path, **{keep.PORT: ""})
    settings.DESTINATION_ALLOW = [f"{keep.HOST}/32:{keep.receiver_port(tmp_path)}"]

    moved = prepare(tmp_path, url=URL)

    assert moved.account_id == made.account_id
    assert {one.url for one in destinations(moved).values()} == {
        f"http://{keep.HOST}:{moved.port}/{name}" for name in PLANS
    }


def test_a_token_that_was_rotated_away_is_replaced(tmp_path) -> None:
    made = prepare(tmp_path, url=URL)
    operations.rotate_token(actor=queries.user_of_bearer(made.bearer), account_id=made.account_id)

    again = prepare(tmp_path, url=URL)

    assert again.token != made.token
    assert prepare(tmp_path, url=URL).token == again.token


def test_a_deleted_account_is_made_anew(tmp_path) -> None:
    made = prepare(tmp_path, url=URL)
    operations.delete_account(actor=queries.user_of_bearer(made.bearer), account_id=made.account_id)
    with pytest.raises(NotFound):
        queries.account(queries.user_of_bearer(made.bearer), made.account_id)

    again = prepare(tmp_path, url=URL)

    assert again.account_id != made.account_id
    assert len(destinations(again)) == len(PLANS)


def test_an_ended_login_is_renewed_with_the_kept_password(tmp_path) -> None:
    made = prepare(tmp_path, url=URL)
    operations.log_out(access_token=made.bearer)

    again = prepare(tmp_path, url=URL)

    assert (again.email, again.password, again.account_id) == (made.email, made.password, made.account_id)
    assert queries.user_of_bearer(again.bearer)


def test_a_lost_memory_gets_a_demo_of_its_own(tmp_path) -> None:
    """The database knows a demo user whose password nobody knows any more."""
    made = prepare(tmp_path, url=URL)
    keep.write(tmp_path, {keep.PORT: str(made.port)})

    other = prepare(tmp_path, url=URL)

    assert other.email != made.email
    assert other.account_id != made.account_id


def test_a_memory_of_another_database_is_replaced(tmp_path) -> None:
    keep.write(
        tmp_path,
        keep.read(tmp_path)
        | {
            "DEMO_EMAIL": "demo@example.com",
            "DEMO_PASSWORD": "of another database",
            "DEMO_BEARER": "cla_junk",
            "DEMO_TOKEN": "clx_junk",
            "DEMO_ACCOUNT": "0190a1b2-0000-7000-8000-000000000000",
            "DEMO_POST_ID": "0190a1b2-0000-7000-8000-000000000001",
            "DEMO_POST_SECRET": "whsec_old",
        },
    )

    made = prepare(tmp_path, url=URL)

    assert made.doors["post"].secret != "whsec_old"
    assert operations.log_in(email=made.email, password=made.password)
