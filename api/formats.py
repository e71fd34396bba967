"""What do we read, and what do we write? JSON in utf-8, strictly, and nothing else."""

import itertools
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import IO, Any

import orjson
from django.conf import settings
from django.utils.http import parse_header_parameters
from rest_framework.exceptions import ParseError, UnsupportedMediaType, ValidationError
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request

from api import errors
from api.fields import MOST_TOLD


class Json(BaseRenderer):
    """orjson. An `orjson.Fragment` goes out as it is: what a client sent is shown digit by digit."""

    media_type = "application/json"
    format = "json"
    charset = None

    def render(
        self,
        data: Any,
        _accepted_media_type: str | None = None,
        _renderer_context: Mapping[str, Any] | None = None,
    ) -> bytes:
        return b"" if data is None else orjson.dumps(data, default=str, option=orjson.OPT_NON_STR_KEYS)


class StrictJson(BaseParser):
    """RFC 8259 in utf-8, at most `DATA_UPLOAD_MAX_MEMORY_SIZE` bytes, with a length, without a coding."""

    media_type = "application/json"

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        request: Request = (parser_context or {})["request"]
        _check_head(request, media_type or "")
        body = stream.read(settings.DATA_UPLOAD_MAX_MEMORY_SIZE + 1)
        if len(body) > settings.DATA_UPLOAD_MAX_MEMORY_SIZE:
            raise errors.TooLarge
        try:
            content = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            # Its message would be enough, but may quote the content.
            raise ParseError(f"The body is not valid JSON (byte {error.pos}).") from None
        _refuse_repeated_names(body)
        return content


def _refuse_repeated_names(body: bytes) -> None:
    """Of two members with one name, we might take another than who checked the request on its way here."""
    json.loads(body.decode(), object_pairs_hook=_check_names, parse_int=str, parse_float=str)


def _check_names(members: list[tuple[str, Any]]) -> None:
    if len({name for name, _ in members}) == len(members):
        return
    names = Counter(name for name, _ in members)
    repeated = itertools.islice((name for name, times in names.items() if times > 1), MOST_TOLD)
    raise ValidationError({name: ["Give it once."] for name in repeated})


class _Unread(UnsupportedMediaType):
    """For a reason of ours, which is told."""


def _check_head(request: Request, media_type: str) -> None:
    if _charset(media_type) not in {"", "utf-8"}:
        raise _Unread(media_type, "The body must be in utf-8.")
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise _Unread(media_type, "The body must be sent as it is, not encoded.")
    if "Transfer-Encoding" in request.headers:
        raise errors.NoLength
    if int(request.META.get("CONTENT_LENGTH") or 0) > settings.DATA_UPLOAD_MAX_MEMORY_SIZE:
        raise errors.TooLarge


def _charset(media_type: str) -> str:
    try:
        return str(parse_header_parameters(media_type)[1].get("charset", "")).lower()
    except (LookupError, ValueError):  # too long, or a parameter's own charset is none
        return "unknown"


class AlwaysJson(BaseContentNegotiation):
    """Whatever a client accepts, it gets JSON: an error in a form that nobody reads would help less."""

    def select_parser(self, request: Request, parsers: Iterable[BaseParser]) -> BaseParser | None:
        media_type = (request.content_type or "").partition(";")[0].strip().lower()
        return next((parser for parser in parsers if parser.media_type == media_type), None)

    def select_renderer(
        self, _request: Request, renderers: Iterable[BaseRenderer], _format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        first = next(iter(renderers))
        return first, first.media_type or ""
