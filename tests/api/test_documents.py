"""Do the documents tell all that the API does, and do they load nothing from elsewhere?"""

import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jsonschema
import pytest
from django.urls import URLPattern, get_resolver
from drf_spectacular.generators import SchemaGenerator
from rest_framework.test import APIClient

from api import documents, examples, problems, receiver
from tests.api.documented import document as made
from tests.api.documented import operations, resolved

DOORS = {"/server/incoming_data", "/health/live", "/health/ready", "/metrics"}
DIALECT = jsonschema.Draft202012Validator


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return made()


# --- it is complete -----------------------------------------------------------------------------------------


def test_every_route_is_in_it_and_every_door(document):
    routes = {
        "/api/v1/" + re.sub(r"<str:(\w+)>", r"{\1}", str(pattern.pattern))
        for pattern in get_resolver("api.urls").url_patterns
        if isinstance(pattern, URLPattern)
    }
    assert set(document["paths"]) == routes | DOORS


def test_every_operation_has_a_name_a_summary_and_a_tag(document):
    tags = {tag["name"] for tag in document["tags"]}
    names = []
    for _, _, operation in operations(document):
        names.append(operation["operationId"])
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", operation["operationId"])
        assert operation["summary"]
        assert set(operation["tags"]) <= tags
    assert len(names) == len(set(names))


def test_every_operation_of_the_api_has_its_errors(document):
    for path, method, operation in operations(document):
        if path in DOORS:
            continue
        public = operation["security"] == [{}]
        expected = (
            {"400", "429", "503"} | (set() if public else {"401"}) | ({"404"} if "{" in path else set())
        )
        if method in {"post", "put", "patch"}:
            expected |= {"411", "413", "415"}
        assert expected <= set(operation["responses"]), operation["operationId"]


def test_every_parameter_every_field_and_every_answer_is_described(document):
    silent = []
    for _, _, operation in operations(document):
        name = operation["operationId"]
        silent += [
            (name, one["name"]) for one in operation.get("parameters", ()) if not one.get("description")
        ]
        for status, answer in operation["responses"].items():
            if not resolved(document, answer)["description"]:
                silent.append((name, status))
    for name, schema in document["components"]["schemas"].items():
        for field, form in schema.get("properties", {}).items():
            if not (form.get("description") or "$ref" in form):
                silent.append((name, field))
    assert silent == []


def test_every_answer_of_the_receiver_is_in_it(document):
    responses = document["paths"]["/server/incoming_data"]["post"]["responses"]
    answers = [value for value in vars(receiver).values() if isinstance(value, receiver.Answer)]
    assert {str(answer.status) for answer in answers} <= set(responses)
    assert {"200", "202", "413", "429"} <= set(responses)


def test_every_problem_that_a_client_may_meet_is_in_it(document):
    shown = {example["value"]["type"] for example in _examples_of_problems(document)}
    unshown = {
        problems.METHOD,  # a method that is not in the document
        problems.NOT_ACCEPTABLE,  # JSON is answered whatever is accepted
        problems.CONFLICT,  # the general one; its kinds are in it
    }
    known = {problems.TYPE_PREFIX + problem.slug for problem in set(problems.ALL) - unshown}
    assert shown == known


def test_every_list_tells_its_parameters(document):
    for path, _, operation in operations(document):
        if operation["operationId"].startswith("list_") and not path.endswith("/events/"):
            names = {parameter["name"] for parameter in operation["parameters"]}
            assert {"cursor", "page_size", "ordering", "search", "id"} <= names, path


# --- its examples -------------------------------------------------------------------------------------------


def test_every_request_and_every_answer_has_an_example(document):
    bare = [
        (name, where)
        for name, where, content in _contents(document)
        if not ({"example", "examples"} & content.keys())
    ]
    assert bare == []


def test_no_example_is_of_something_that_there_is_not(document):
    names = {operation["operationId"] for _, _, operation in operations(document)}
    assert set(examples.REQUESTS) | set(examples.ANSWERS) <= names


def test_every_example_is_as_its_schema_says(document):
    wrong = []
    for name, where, content in _contents(document):
        shown = [content["example"]] if "example" in content else []
        shown += [one["value"] for one in content.get("examples", {}).values()]
        for value in shown:
            wrong += [(name, where, error.message) for error in _errors(document, content["schema"], value)]
    for _, _, operation in operations(document):
        for one in operation.get("parameters", ()):
            if "example" in one:
                wrong += [(one["name"], e.message) for e in _errors(document, one["schema"], one["example"])]
    assert wrong == []


def test_an_example_that_is_not_as_its_schema_says_is_noticed(document):
    schema = {"$ref": "#/components/schemas/Account"}
    assert not list(_errors(document, schema, examples.ACCOUNT))
    assert list(_errors(document, schema, {**examples.ACCOUNT, "id": "7"}))
    assert list(_errors(document, schema, {**examples.ACCOUNT, "created_at": "yesterday"}))
    assert list(_errors(document, {"$ref": "#/components/schemas/AccountRequest"}, {"name": "A", "no": 1}))


def test_an_example_shows_every_field_that_an_answer_has(document):
    """Those that are there in every answer; the rest is described."""
    for operation in examples.ANSWERS:
        content = next(c for name, where, c in _contents(document) if name == operation and where[0] == "2")
        needed = resolved(document, content["schema"]).get("required", ())
        assert set(needed) <= set(content["example"])


def _contents(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Everything that has a schema: whose it is, where (`request` or the status), and what it says."""
    for _, _, operation in operations(document):
        name = operation["operationId"]
        for content in operation.get("requestBody", {}).get("content", {}).values():
            yield name, "request", content
        for status, answer in operation["responses"].items():
            for content in resolved(document, answer).get("content", {}).values():
                yield name, status, content


def _examples_of_problems(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for answer in document["components"]["responses"].values():
        yield from answer["content"][problems.CONTENT_TYPE]["examples"].values()


def _errors(document: dict[str, Any], schema: dict[str, Any], value: Any) -> Iterator[Any]:
    whole = {**schema, "components": document["components"]}
    return DIALECT(whole, format_checker=_formats()).iter_errors(value)


def _formats() -> jsonschema.FormatChecker:
    checker = jsonschema.FormatChecker()
    checker.checks("date-time")(_is_our_moment)
    return checker


def _is_our_moment(value: object) -> bool:
    shape = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"
    return not isinstance(value, str) or re.fullmatch(shape, value) is not None


# --- the pages ----------------------------------------------------------------------------------------------


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
@pytest.mark.parametrize("path", ["/api/docs/", "/api/redoc/", "/api/schema/"])
@pytest.mark.parametrize("method", ["options", "post", "delete"])
def test_they_are_read_and_nothing_else(path, method):
    reply = getattr(APIClient(raise_request_exception=False), method)(path)
    assert (reply.status_code, reply["Allow"]) == (405, "GET, HEAD")
    assert reply.json()["success"] is False


@pytest.mark.django_db
@pytest.mark.parametrize("query", ["version=\x00", "version=2", "lang=\x00", "lang=de"])
def test_nothing_that_is_asked_for_stands_in_the_document(query):
    plain, asked = (APIClient().get(f"/api/schema/?{query}") for query in ("", query))
    assert asked.status_code == 200
    assert asked.content == plain.content
    assert asked["Content-Disposition"] == plain["Content-Disposition"]


def test_the_document_is_made_once_whoever_asks_at_once(monkeypatch):
    documents._document.cache_clear()
    made: list[float] = []
    make = SchemaGenerator.get_schema

    def slowly(generator, *args, **kwargs):
        made.append(time.monotonic())
        time.sleep(0.05)
        return make(generator, *args, **kwargs)

    monkeypatch.setattr(SchemaGenerator, "get_schema", slowly)
    with ThreadPoolExecutor(8) as threads:
        replies = list(threads.map(lambda _: APIClient().get("/api/schema/"), range(16)))
    assert {reply.status_code for reply in replies} == {200}
    assert len({reply.content for reply in replies}) == len(made) == 1


@pytest.mark.django_db
def test_the_root_leads_to_the_documents():
    reply = APIClient().get("/")
    assert (reply.status_code, reply["Location"]) == (302, "/api/docs/")
