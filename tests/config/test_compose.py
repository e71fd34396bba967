"""Would compose.yml work? No Docker runs here, so everything that it names is looked up."""

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from django.core.management import get_commands

from api import health
from config import embedded, keeper
from config.embedded import CODE
from tests.config import variables

COMPOSE: dict[str, Any] = yaml.safe_load((CODE / "compose.yml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
LASTING = set(SERVICES) - {"migrate"}
REFERENCE = re.compile(r"\$\{(\w+)(:?[-?][^}]*)?\}")
DOCKERFILE = (CODE / "Dockerfile").read_text().splitlines()


def test_all_parts_are_there() -> None:
    assert set(SERVICES) == {"postgres", "migrate", "web", "worker"}
    assert set(OURS) == {"migrate", "web", "worker"}


@pytest.mark.parametrize("name", OURS)
def test_every_command_exists(name: str) -> None:
    python, script, command = OURS[name]["command"]
    assert python == "python"
    assert (CODE / script).is_file()
    assert command in get_commands()


@pytest.mark.parametrize("name", OURS)
def test_every_variable_given_is_read(name: str) -> None:
    assert set(OURS[name]["environment"]) <= variables.read()


def test_every_variable_asked_for_is_explained() -> None:
    asked = {match[1] for match in REFERENCE.finditer((CODE / "compose.yml").read_text())}
    assert asked <= set(variables.documented())


@pytest.mark.parametrize(
    "name",
    ["SECRET_KEY", "ENCRYPTION_KEYS", "POSTGRES_PASSWORD", "OWNER_PASSWORD", "APPLICATION_PASSWORD"],
)
def test_a_secret_has_no_default(name: str) -> None:
    found = [match[2] for match in REFERENCE.finditer((CODE / "compose.yml").read_text()) if match[1] == name]
    assert found
    assert all(rest.startswith(":?") for rest in found)


def test_only_migrate_knows_the_owner() -> None:
    knowing = {name for name, service in OURS.items() if "OWNER_PASSWORD" in str(service["environment"])}
    assert knowing == {"migrate"}


@pytest.mark.parametrize("name", SERVICES)
def test_every_file_exists_and_every_volume_is_declared(name: str) -> None:
    for volume in SERVICES[name].get("volumes", []):
        source = volume.partition(":")[0]
        assert (CODE / source).is_file() if source.startswith(".") else source in COMPOSE["volumes"]


@pytest.mark.parametrize("name", SERVICES)
def test_whom_it_depends_on_can_be_waited_for(name: str) -> None:
    for other, how in SERVICES[name].get("depends_on", {}).items():
        assert other in SERVICES
        wanted = "service_healthy" if other in LASTING else "service_completed_successfully"
        assert how == {"condition": wanted}


@pytest.mark.parametrize("name", sorted(LASTING))
def test_what_lasts_has_a_health_check_and_comes_back(name: str) -> None:
    check = SERVICES[name]["healthcheck"]
    assert {"test", "interval", "timeout", "retries"} <= set(check)
    assert SERVICES[name]["restart"] == "unless-stopped"
    if check["test"][1:3] == ["python", "-c"]:
        compile(check["test"][3], name, "exec")


def test_the_webs_health_check_asks_a_door_that_exists() -> None:
    code = SERVICES["web"]["healthcheck"]["test"][3]
    assert health.READY in code
    assert f":{SERVICES['web']['environment']['PORT']}{health.READY}" in code


@pytest.mark.parametrize("name", SERVICES)
def test_everybody_gets_time_to_end(name: str) -> None:
    assert SERVICES[name]["stop_grace_period"] in {"1m", "2m"}  # over SHUTDOWN_GRACE_SECONDS


@pytest.mark.parametrize("name", OURS)
def test_nobody_is_root_or_can_become_it(name: str) -> None:
    assert "user" not in OURS[name]
    assert OURS[name]["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in OURS[name]["security_opt"]
    assert OURS[name]["init"] is True
    last_stage = max(number for number, line in enumerate(DOCKERFILE) if line.startswith("FROM"))
    [user] = [line.split()[1] for line in DOCKERFILE[last_stage:] if line.startswith("USER")]
    assert user not in {"root", "0"}
    assert any("useradd" in line and line.endswith(f" {user}") for line in DOCKERFILE[last_stage:])


def test_the_image_gets_every_file_that_it_copies_and_every_room() -> None:
    kept = {line[1:].removesuffix("/**") for line in ignored() if line.startswith("!")}
    copied = [shlex.split(line)[1] for line in DOCKERFILE if line.startswith("COPY") and "--from" not in line]
    for path in copied:
        assert path == "." or path in kept
    assert {*variables.ROOMS, "manage.py"} <= kept
    assert all((CODE / path).exists() for path in kept)


def ignored() -> Iterator[str]:
    yield from (CODE / ".dockerignore").read_text().splitlines()


@pytest.mark.parametrize("name", ["base", "dev"])
def test_every_requirement_is_pinned_with_hashes(name: str) -> None:
    text = (CODE / f"requirements/{name}.txt").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.lstrip().startswith("#")]
    assert len(lines) > 20
    assert [
        line for line in lines if not re.match(r"[\w.\[\],-]+==\S+ .*--hash=sha256:[0-9a-f]{64}", line)
    ] == []
    assert "://" not in text


def test_the_explained_variables_are_those_that_are_read() -> None:
    only_compose = {"POSTGRES_PASSWORD", "OWNER_PASSWORD", "APPLICATION_PASSWORD"}
    assert set(variables.documented()) - only_compose == variables.read()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (name, value)
        for name, value in variables.documented().items()
        if value and name not in {"DATA_DIR", "ALLOWED_HOSTS"}  # theirs are expressions
    ],
)
def test_an_explained_default_is_the_real_one(name: str, value: str) -> None:
    assert variables.defaults()[name] == value


@pytest.mark.slow
def test_the_databases_roles_are_made_and_the_program_owns_nothing(tmp_path: Path) -> None:
    """The script that the database's container runs at its first start, on a server as new as that."""
    server = embedded.attach(tmp_path)
    login = {**server.login(keeper.SUPERUSER), "dbname": "postgres"}
    with psycopg.connect(**login, autocommit=True) as superuser:
        for statement in ("DATABASE datapusher", "ROLE datapusher_owner", "ROLE datapusher"):
            superuser.execute(f"DROP {statement}")
    subprocess.run(
        [CODE / "deploy/postgres/roles.sh"],
        env={
            "PATH": f"{embedded._binaries(18)}:/usr/bin:/bin",
            "PGHOST": server.host,
            "PGPASSWORD": server.passwords[keeper.SUPERUSER],
            "POSTGRES_USER": keeper.SUPERUSER,
            "OWNER_PASSWORD": "the owner's",
            "APPLICATION_PASSWORD": 'the "program"',
        },
        check=True,
    )
    address = {"host": server.host, "dbname": "datapusher"}
    with psycopg.connect(**address, user="datapusher_owner", password="the owner's") as owner:
        owner.execute("CREATE TABLE mine (i int)")
    program = psycopg.connect(**address, user="datapusher", password='the "program"')
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        program.execute("CREATE TABLE its (i int)")
    program.close()
    assert embedded.release(tmp_path)
