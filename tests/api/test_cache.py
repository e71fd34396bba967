"""Is what the API reads from the cache what is committed, whoever wrote it, and is it really read there?"""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from types import SimpleNamespace

import pytest
from cachalot.cache import cachalot_caches
from django.core.cache import caches
from django.db import DatabaseError, OperationalError, connection, connections, transaction
from django.db.models import DateTimeField, ExpressionWrapper
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext

from accounts import generations, queries
from accounts.models import Account, Destination
from api.caching import Reading
from config import caches as backends
from tests.api.conftest import add_destination, person
from tests.api.servers import BASE

pytestmark = pytest.mark.slow

NEW = "https://new.example.com/in"


@pytest.fixture
def alice(database):
    return person("alice")


@pytest.fixture
def bob(database):
    return person("bob")


@contextmanager
def asked(table: str, times: int):
    """The database is asked so often for rows of this table first of all."""
    with CaptureQueriesContext(connection) as captured:
        yield
    found = [query["sql"] for query in captured if f' FROM "{table}"' in query["sql"]]
    assert len(found) == times, found


def urls(account) -> list[str]:
    """As one request that reads finds them."""
    with generations.reading():
        return [row.url for row in queries.destinations_of(account.pk)]


def write(url: str) -> None:
    Destination.objects.update(url=url)


def in_thread(work) -> None:
    """Work of another thread, which has a connection of its own."""

    def run() -> None:
        try:
            work()
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as other:
        other.submit(run).result()


@pytest.mark.usefixtures("destination")
class TestWhatIsReadThere:
    @pytest.mark.parametrize(
        ("path", "table"),
        [
            ("/accounts/{account}/", "accounts_account"),
            ("/accounts/{account}/destinations/", "accounts_destination"),
            ("/accounts/{account}/destinations/?search=hooks&ordering=url", "accounts_destination"),
            ("/accounts/{account}/destinations/{destination}/", "accounts_destination"),
        ],
    )
    def test_the_second_answer_asks_only_who_is_asking(self, alice, account, destination, path, table):
        path = path.format(account=account.pk, destination=destination.pk)
        with asked(table, 1):
            first = alice.get(path)
        with asked(table, 0), asked("accounts_user", 1):
            second = alice.get(path)
        assert first.status_code == second.status_code == 200
        assert first.json() == second.json()

    def test_who_asks_with_a_bearer_is_asked_together_with_the_generation(self, alice, account):
        for _ in range(2):
            with CaptureQueriesContext(connection) as captured:
                assert alice.get(f"/accounts/{account.pk}/destinations/").status_code == 200
            assert [" FROM \"accounts_user\"" in query["sql"] for query in captured
                    if "accounts_generation" in query["sql"]] == [True]  # fmt: skip

    @pytest.mark.parametrize("detail", [False, True])
    def test_members_too_but_not_the_role_of_who_asks(self, alice, account, detail):
        path = f"/accounts/{account.pk}/members/"
        path += f"{account.members.get(user=alice.user).pk}/" if detail else ""
        with asked("accounts_member", 2):
            first = alice.get(path)
        with asked("accounts_member", 1):
            second = alice.get(path)
        assert first.status_code == second.status_code == 200
        assert first.json() == second.json()

    def test_the_role_is_asked_at_every_request(self, alice, account):
        for _ in range(2):
            with asked("accounts_member", 1):
                assert alice.get(f"/accounts/{account.pk}/destinations/").status_code == 200

    @pytest.mark.parametrize("path", ["/accounts/", "/accounts/{0}/", "/accounts/{0}/members/"])
    def test_who_is_a_member_is_asked_at_every_request(self, alice, account, database, path):
        """Shown by a change that makes no generation, so that what is in the cache stays there."""
        path = path.format(account.pk)
        first, second = alice.get(path), alice.get(path)
        assert first.json() == second.json()
        owner = database.connect_owner()
        owner.execute("ALTER TABLE accounts_member DISABLE TRIGGER USER")
        owner.execute("DELETE FROM accounts_member")
        gone = alice.get(path)
        assert gone.status_code == 404 or gone.json()["results"] == []

    def test_a_session_s_user_is_asked_at_every_request(self, client, alice, account):
        client.force_login(alice.user)
        path = f"/api/v1/accounts/{account.pk}/destinations/"
        for times in (1, 0):
            with asked("accounts_user", 1), asked("accounts_destination", times):
                assert client.get(path).status_code == 200
        Account.objects.update(name="a new generation, and only one query tells it")
        with asked("accounts_user", 1), asked("accounts_destination", 1):
            assert client.get(path).status_code == 200

    def test_what_others_asked_is_not_answered_to_strangers(self, alice, account):
        assert alice.get(f"/accounts/{account.pk}/destinations/").status_code == 200
        assert person("stranger").get(f"/accounts/{account.pk}/destinations/").status_code == 404

    def test_only_requests_that_read(self, account, rf):
        answer = Reading(lambda _: len(queries.destinations_of(account.pk)))
        for method in ("get", "head"):
            with asked("accounts_destination", 0 if method == "head" else 1):
                assert answer(getattr(rf, method)("/")) == 1
        for method in ("post", "put", "patch", "delete", "options"):
            with asked("accounts_destination", 1):
                assert answer(getattr(rf, method)("/")) == 1

    def test_nothing_outside_requests(self, account):
        urls(account)
        for _ in range(2):
            with asked("accounts_destination", 1):
                list(queries.destinations_of(account.pk))

    def test_nothing_after_a_request_that_failed(self, account, rf):
        def fail(_):
            raise DatabaseError

        with pytest.raises(DatabaseError):
            Reading(fail)(rf.get("/"))
        for _ in range(2):
            with asked("accounts_destination", 1):
                list(queries.destinations_of(account.pk))

    def test_past_the_cache_ends_with_its_block_also_when_that_fails(self, account):
        urls(account)
        with generations.reading():
            with generations.past_the_cache(), asked("accounts_destination", 1):
                list(queries.destinations_of(account.pk))
            with pytest.raises(DatabaseError), generations.past_the_cache():
                raise DatabaseError
            with asked("accounts_destination", 0):
                list(queries.destinations_of(account.pk))

    @pytest.mark.parametrize(
        ("rows", "table"),
        [
            (lambda account: queries.tokens_of(account.pk), "accounts_ingesttoken"),
            (lambda account: Account.objects.filter(ingest_tokens__account=account.pk), "accounts_account"),
            (lambda _: Destination.objects.filter(created_at__lt=Now()), "accounts_destination"),
            (
                lambda _: Destination.objects.filter(
                    created_at__gt=ExpressionWrapper(Now() - timedelta(days=1), DateTimeField())
                ),
                "accounts_destination",
            ),
        ],
        ids=["another table", "joined to another table", "by the clock", "by the clock, deeper"],
    )
    def test_not_what_depends_on_more(self, account, rows, table):
        with generations.reading():
            for _ in range(2):
                with asked(table, 1):
                    list(rows(account))


class TestWhoeverWrote:
    @pytest.fixture
    def hot(self, alice, account, destination):
        """Reads its URL through the API; it is in the cache."""
        path = f"/accounts/{account.pk}/destinations/{destination.pk}/"

        def read() -> str:
            return alice.get(path).json()["url"]

        assert read() == read() == destination.url
        with asked("accounts_destination", 0):
            read()
        return read

    def test_a_statement_of_another_client(self, database, hot):
        database.connect().execute("UPDATE accounts_destination SET url = %s", [NEW])
        assert hot() == NEW

    def test_a_function_that_names_no_table(self, database, hot):
        database.connect_owner().execute(
            "CREATE FUNCTION public.move(text) RETURNS void LANGUAGE plpgsql AS"
            " 'BEGIN EXECUTE $$UPDATE accounts_$$ || $$destination SET url = $1$$ USING $1; END'"
        )
        with connection.cursor() as cursor:
            cursor.execute("SELECT move(%s)", [NEW])
        assert hot() == NEW

    def test_a_session_with_another_search_path(self, database, hot):
        """As that of `pg_restore --data-only`."""
        other = database.connect()
        other.execute("SET search_path = ''")
        other.execute("UPDATE public.accounts_destination SET url = %s", [NEW])
        assert hot() == NEW

    @pytest.mark.usefixtures("destination")
    def test_copy(self, alice, account, database):
        path = f"/accounts/{account.pk}/destinations/"
        assert len(alice.get(path).json()["results"]) == 1
        other = database.connect()
        with other.transaction(), other.cursor() as cursor:
            cursor.execute("CREATE TEMPORARY TABLE bag ON COMMIT DROP AS SELECT * FROM accounts_destination")
            cursor.execute("UPDATE bag SET id = gen_random_uuid()")
            with cursor.copy("COPY bag TO STDOUT (FORMAT binary)") as out:
                rows = b"".join(bytes(part) for part in out)
            with cursor.copy("COPY accounts_destination FROM STDIN (FORMAT binary)") as copy:
                copy.write(rows)
        assert len(alice.get(path).json()["results"]) == 2

    @pytest.mark.usefixtures("destination")
    def test_a_table_that_is_emptied(self, alice, account, database):
        path = f"/accounts/{account.pk}/destinations/"
        assert len(alice.get(path).json()["results"]) == 1
        database.connect_owner().execute("TRUNCATE accounts_destination")
        assert alice.get(path).json()["results"] == []

    def test_another_process_of_ours(self, database, hot):
        code = f"from accounts.models import Destination as D; D.objects.update(url={NEW!r})"
        subprocess.run(
            [sys.executable, "manage.py", "shell", "--no-imports", "-c", code],
            cwd=BASE,
            env=database.environment,
            check=True,
            timeout=60,
        )
        assert hot() == NEW

    def test_another_thread_outside_of_any_transaction(self, hot):
        in_thread(lambda: write(NEW))
        assert hot() == NEW

    def test_the_api_itself(self, alice, account, destination, hot):
        path = f"/accounts/{account.pk}/destinations/{destination.pk}/"
        assert alice.patch(path, {"url": "https://hooks.example.com/other"}).status_code == 200
        assert hot() == "https://hooks.example.com/other"

    def test_only_what_is_committed(self, database, hot):
        writer = database.connect(autocommit=False)
        old = hot()
        writer.execute("UPDATE accounts_destination SET url = %s", [NEW])
        assert hot() == old
        writer.rollback()
        with asked("accounts_destination", 0):
            assert hot() == old
        writer.execute("UPDATE accounts_destination SET url = %s", [NEW])
        writer.commit()
        assert hot() == NEW

    @pytest.mark.usefixtures("destination")
    def test_roles_count_at_once(self, alice, bob, account, database):
        path = f"/accounts/{account.pk}/destinations/"
        new = {"url": "https://hooks.example.com/two", "http_method": "POST", "headers": {}}
        assert bob.get(path).status_code == bob.get(path).status_code == 200
        assert bob.post(path, new).status_code == 403
        other = database.connect()
        other.execute("UPDATE accounts_member SET role_id = 1")
        assert bob.post(path, new).status_code == 201
        other.execute("DELETE FROM accounts_member WHERE user_id = %s", [bob.user.pk])
        assert bob.get(path).status_code == 404
        other.execute("UPDATE accounts_user SET is_active = false WHERE id = %s", [alice.user.pk])
        assert alice.get(path).status_code == 401


@pytest.mark.usefixtures("destination")
class TestInBetween:
    """Where a reader or a writer is caught half-way."""

    def test_a_late_reader_s_old_result_is_found_by_nobody_after_the_commit(
        self, account, destination, database, monkeypatch
    ):
        """It asked before the commit, and stores after it."""
        cache = caches["cachalot"]
        store = cache.set_many

        def store_late(*given):
            monkeypatch.undo()
            database.connect().execute("UPDATE accounts_destination SET url = %s", [NEW])
            assert urls(account) == [NEW]
            return store(*given)

        monkeypatch.setattr(cache, "set_many", store_late)
        assert urls(account) == [destination.url]
        assert urls(account) == [NEW]

    def test_a_generation_that_is_old_by_the_time_of_the_query(self, account, database):
        with generations.reading():
            list(queries.roles())  # the generation is known now
            database.connect().execute("UPDATE accounts_destination SET url = %s", [NEW])
            assert [row.url for row in queries.destinations_of(account.pk)] == [NEW]
        assert urls(account) == [NEW]

    @pytest.mark.parametrize("block", [nullcontext, transaction.atomic])
    def test_a_request_reads_its_own_write_and_keeps_it_to_itself(self, account, destination, block):
        with generations.reading():
            assert [row.url for row in queries.destinations_of(account.pk)] == [destination.url]
            with block():
                write(NEW)
            for _ in range(2):
                with asked("accounts_destination", 1):
                    assert [row.url for row in queries.destinations_of(account.pk)] == [NEW]
        assert urls(account) == [NEW]

    @pytest.mark.parametrize("nested", [False, True])
    def test_what_was_not_committed_is_never_stored(self, account, destination, nested):
        with generations.reading():
            assert [row.url for row in queries.destinations_of(account.pk)] == [destination.url]
            with transaction.atomic():
                if nested:
                    with transaction.atomic():
                        write(NEW)
                else:
                    write(NEW)
                assert [row.url for row in queries.destinations_of(account.pk)] == [NEW]
                in_thread(lambda: _equal(urls(account), [destination.url]))
                transaction.set_rollback(True)
            assert [row.url for row in queries.destinations_of(account.pk)] == [destination.url]
        assert urls(account) == [destination.url]

    def test_a_savepoint_that_was_rolled_back(self, account):
        with generations.reading(), transaction.atomic():
            write(NEW)
            with transaction.atomic():
                write("https://hooks.example.com/never")
                transaction.set_rollback(True)
            assert [row.url for row in queries.destinations_of(account.pk)] == [NEW]
        assert urls(account) == [NEW]

    def test_a_transaction_that_only_reads_stores_nothing(self, account):
        with generations.reading():
            for _ in range(2):
                with transaction.atomic(), asked("accounts_destination", 1):
                    list(queries.destinations_of(account.pk))

    def test_a_write_past_the_cache_ends_the_reading_as_well(self, account):
        urls(account)
        with generations.reading():
            with generations.past_the_cache():
                write(NEW)
            assert [row.url for row in queries.destinations_of(account.pk)] == [NEW]


class TestFailures:
    def test_a_thread_whose_connect_failed_in_a_transaction(self, account, destination, monkeypatch):
        """cachalot's own layer would stay behind: the thread would neither share nor forget what it read."""

        def work() -> None:
            settings = {**connection.settings_dict, "NAME": "there is none"}
            with monkeypatch.context() as gone:
                gone.setattr(connections["default"], "settings_dict", settings)
                for _ in range(3):
                    with pytest.raises(OperationalError), transaction.atomic():
                        raise AssertionError("not reached")
            assert not cachalot_caches.atomic_caches["default"]
            with asked("accounts_destination", 1):
                assert urls(account) == [destination.url]

        in_thread(work)
        with asked("accounts_destination", 0):  # this thread finds what that one stored
            assert urls(account) == [destination.url]

    def test_without_a_generation_nothing_is_cached(self, account, destination, database):
        database.connect_owner().execute("DELETE FROM accounts_generation")
        for _ in range(2):
            with asked("accounts_destination", 1):
                assert urls(account) == [destination.url]

    def test_a_cache_that_is_gone_is_an_empty_one(self, account, destination, monkeypatch, caplog):
        """What stands for Redis' library and its connection here fails as they do."""

        class Gone(Exception):
            pass

        def fail(*_):
            raise Gone("connection refused")

        cache = backends.Shared("redis://cache.example.com", {})
        cache._cache = SimpleNamespace(get_many=fail, set_many=fail)
        monkeypatch.setitem(sys.modules, "redis", SimpleNamespace(RedisError=Gone))
        monkeypatch.setattr(caches._connections, "cachalot", cache)
        assert urls(account) == urls(account) == [destination.url]
        assert "the cache can't be read: connection refused" in caplog.text
        assert "the cache can't be written: connection refused" in caplog.text
        caplog.clear()
        write(NEW)  # holds locks, and does not even ask
        assert not caplog.records
        assert urls(account) == [NEW]

    def test_large_results_are_not_kept(self):
        cache = backends.InProcess("a small one", {})
        cache.set_many({"note": 1.5, "small": "x", "large": "x" * backends.MOST_BYTES}, 30)
        assert cache.get_many(["note", "small", "large"]) == {"note": 1.5, "small": "x"}

    def test_a_page_of_large_rows_is_asked_each_time(self, alice, account):
        headers = {f"x-{number}": "v" * 1000 for number in range(15)}
        for number in range(4):
            add_destination(alice, account, url=f"https://hooks.example.com/{number}", headers=headers)
        for _ in range(2):
            with asked("accounts_destination", 1):
                assert len(alice.get(f"/accounts/{account.pk}/destinations/").json()["results"]) == 4


@pytest.mark.parametrize("redis", ["", "redis://127.0.0.1:1/0"])
def test_the_settings_pass_all_checks_with_and_without_redis(redis, database):
    done = subprocess.run(
        [sys.executable, "-W", "error", "manage.py", "check", "--fail-level", "WARNING"],
        cwd=BASE,
        env={**database.environment, "REDIS_URL": redis},
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


def _equal(left, right) -> None:
    assert left == right
