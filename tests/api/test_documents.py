"""Do the documents tell all that the API does, and do they load nothing from elsewhere?"""

import io
import re

import pytest
import yaml
from django.core.management import call_command
from django.urls import URLPattern, get_resolver
from rest_framework.test import APIClient

from api import receiver


@pytest.fixture(scope="module")
def document() -> dict:
    written = io.StringIO()
    call_command("spectacular", stdout=written, validate=True, fail_on_warn=True)
    return yaml.safe_load(written.getvalue())


def test_every_route_is_in_it_and_the_receiver(document):
    routes = {
        "/api/v1/" + re.sub(r"<str:(\w+)>", r"{\1}", str(pattern.pattern))
        for pattern in get_resolver("api.urls").url_patterns
        if isinstance(pattern, URLPattern)
    }
    assert set(document["paths"]) == routes | {"/server/incoming_data"}


def test_every_operation_has_a_name_a_summary_a_tag_and_its_errors(document):
    names = []
    tags = {tag["name"] for tag in document["tags"]}
    for operations in document["paths"].values():
        for operation in operations.values():
            names.append(operation["operationId"])
            assert operation["summary"]
            assert set(operation["tags"]) <= tags
            public = operation["security"] == [{}]
            assert ({"503"} if public else {"401", "503"}) <= set(operation["responses"])
    assert len(names) == len(set(names))


def test_every_answer_of_the_receiver_is_in_it(document):
    responses = document["paths"]["/server/incoming_data"]["post"]["responses"]
    answers = [value for value in vars(receiver).values() if isinstance(value, receiver.Answer)]
    assert {str(answer.status) for answer in answers} <= set(responses)
    assert {"200", "202", "413", "429"} <= set(responses)


def test_every_list_tells_its_parameters(document):
    for path in ("/api/v1/accounts/", "/api/v1/accounts/{account_id}/logs/"):
        names = {parameter["name"] for parameter in document["paths"][path]["get"]["parameters"]}
        assert {"cursor", "page_size", "ordering", "search", "id"} <= names


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/api/docs/", "/api/docs/?script=", "/api/redoc/"])
def test_pages_load_nothing_from_elsewhere(path):
    reply = APIClient().get(path)
    assert reply.status_code == 200
    text = reply.content.decode()
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", text)
    assert "'self'" in reply["Content-Security-Policy"]
    for link in re.findall(r'(?:src|href)="(/static/[^"]+)"', text):
        file = APIClient().get(link)
        assert file.status_code == 200
        file.close()


@pytest.mark.django_db
def test_the_root_leads_to_the_documents():
    reply = APIClient().get("/")
    assert (reply.status_code, reply["Location"]) == (302, "/api/docs/")


@pytest.mark.django_db
@pytest.mark.parametrize("accept", ["application/vnd.oai.openapi", "application/vnd.oai.openapi+json"])
def test_the_schema_is_public(accept, document):
    reply = APIClient().get("/api/schema/", headers={"Accept": accept})
    assert reply.status_code == 200
    assert set(yaml.safe_load(reply.content)["paths"]) == set(document["paths"])
