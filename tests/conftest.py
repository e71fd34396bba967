"""Fixtures for all rooms: `@pytest.mark.django_db` rolls back, `database` commits for real on its own copy.

Both run as the application's role, on the server of `DATABASE_URL` or else on an embedded one of their own.
"""

import itertools
from collections.abc import Iterator

import pytest
from pytest_django.plugin import DjangoDbBlocker

from tests import databases

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def template(
    request: pytest.FixtureRequest, django_test_environment: None, django_db_blocker: DjangoDbBlocker
) -> Iterator[databases.Template]:
    worker = getattr(request.config, "workerinput", {}).get("workerid", "main")
    with django_db_blocker.unblock(), databases.template(worker) as made:
        yield made


@pytest.fixture(scope="session")
def django_db_setup(template: databases.Template, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """pytest-django's own would migrate as the application, which may not."""
    with django_db_blocker.unblock(), databases.copy(template, "rollback"):
        yield


@pytest.fixture
def database(
    request: pytest.FixtureRequest, template: databases.Template, django_db_blocker: DjangoDbBlocker
) -> Iterator[databases.Database]:
    """A fresh database with real commits, and Django's connection pointed at it."""
    if request.node.get_closest_marker("django_db") or "db" in request.fixturenames:
        raise pytest.UsageError("a test has either `database` (commits) or `django_db` (rolls back)")
    with django_db_blocker.unblock(), databases.copy(template, str(next(_numbers))) as made:
        yield made


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Long values (bodies, fresh tokens) are named by their argument: legible, and alike on all workers."""
    return argname if isinstance(val, str | bytes) and len(val) > 40 else None
