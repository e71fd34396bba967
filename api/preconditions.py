"""Is it still what the client has seen? ETags, `If-Match` and `If-None-Match` (RFC 9110, 13).

What has a revision has it as its ETag, before and after each change, whatever the bytes look like; all other
answers to GET have a digest of their bytes.
"""

import re

from django.http import HttpRequest, HttpResponseBase
from django.middleware.http import ConditionalGetMiddleware
from rest_framework.request import Request

from api import errors, problems

NO_REVISION = 0  # revisions begin at 1
_TAG = re.compile(r'"([1-9][0-9]{0,9})"', re.ASCII)


def tag(revision: int) -> str:
    return f'"{revision}"'


def revision(request: Request) -> int | None:
    """What the operation is asked to find: None is whatever there is.

    What can't be a tag of ours (weak, several, malformed) is a revision that nothing has: so it is 412, but
    404 and 403 come first, as with every other tag.
    """
    condition = request.headers.get("If-Match")
    if condition is None or condition.strip() == "*":
        return None
    found = _TAG.fullmatch(condition.strip())
    return int(found[1]) if found else NO_REVISION


class ConditionalGet(ConditionalGetMiddleware):
    """Django's, but its 412 is a problem like all others."""

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        answered = super().process_response(request, response)
        if answered is not response and answered.status_code == problems.STALE.status:
            return errors.answer(request, problems.STALE)
        return answered
