"""How do people come in and go out, and how do they get a password, or another one?"""

from typing import Any, ClassVar

from django.contrib import auth
from django.http import HttpRequest
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response

from accounts import operations, queries
from api import callers, problems
from api.endpoint import Endpoint, written
from api.fields import Flag, Moment, Nothing, Strict, Text
from api.problems import Problem
from api.schema import NOTHING, envelope

BACKEND = "django.contrib.auth.backends.ModelBackend"
LONGEST_INPUT = 2000  # a bound for hashing; the rules themselves are the model's


class UserFields(Strict):
    """A person."""

    id = serializers.UUIDField(read_only=True)
    email = serializers.CharField(read_only=True)
    created_at = Moment()
    updated_at = Moment()
    created_by = serializers.UUIDField(source="created_by_id", read_only=True)
    updated_by = serializers.UUIDField(source="updated_by_id", read_only=True)

    class Meta:
        ref_name = "User"


class Me(UserFields):
    """The person who asks."""

    may_create_accounts = serializers.SerializerMethodField()

    class Meta:
        ref_name = "Me"

    def get_may_create_accounts(self, user: Any) -> bool:
        return queries.may_create_accounts(user)


class Registration(Strict):
    """Both are required; the password has at least 8 characters and isn't a common one."""

    email = Text(max_length=LONGEST_INPUT)
    password = Text(max_length=LONGEST_INPUT, write_only=True)


class Credentials(Strict):
    """`session`: for browsers, a cookie instead of a token."""

    email = Text(max_length=LONGEST_INPUT)
    password = Text(max_length=LONGEST_INPUT, write_only=True)
    session = Flag(default=False)


class PasswordChange(Strict):
    """Both are required; for the new one the rules are those of registering."""

    current_password = Text(max_length=LONGEST_INPUT, write_only=True, help_text="The present one.")
    new_password = Text(max_length=LONGEST_INPUT, write_only=True, help_text="From now on.")


class Acceptance(Strict):
    """Both are required; for the password the rules are those of registering."""

    token = Text(max_length=LONGEST_INPUT, write_only=True, help_text="It is in the mail that invited you.")
    password = Text(max_length=LONGEST_INPUT, write_only=True)


class LoggedIn(Strict):
    """`token` is shown once; null for a session."""

    token = serializers.CharField(read_only=True, allow_null=True)
    user = UserFields(read_only=True)


USER_WRITTEN = envelope("UserWritten", UserFields())


class Authentication(Endpoint):
    """Register, log in, log out, change the password, accept an invitation, and who am I."""

    tag = "auth"
    answers_once = False
    serializer_class = UserFields
    filter_backends = []
    pagination_class = None  # type: ignore[assignment] # DRF takes None for: no pages
    problems: ClassVar[dict[str, tuple[Problem, ...]]] = {
        "register": (problems.BUSY,),
        "log_in": (problems.WRONG_CREDENTIALS, problems.BUSY),
        "change_password": (problems.BUSY,),
        "accept_invitation": (problems.BUSY,),
    }

    @extend_schema(
        operation_id="register",
        summary="Register",
        request=Registration,
        responses={201: USER_WRITTEN},
    )
    @action(
        detail=False,
        methods=["post"],
        url_path="register",
        authentication_classes=[],
        permission_classes=[AllowAny],
    )
    def register(self, _request: Request) -> Response:
        user = operations.register_user(**self.content(Registration))
        return written(UserFields(user).data, status=201)

    @extend_schema(
        operation_id="log_in",
        summary="Log in",
        description="A wrong password and an unknown user are told alike. After some tries that failed, for "
        "one e-mail address or from one place, there are growing pauses: 429, and `Retry-After` says for "
        "how long.",
        request=Credentials,
        responses={200: envelope("LoggedInWritten", LoggedIn())},
    )
    @action(
        detail=False,
        methods=["post"],
        url_path="login",
        authentication_classes=[],
        permission_classes=[AllowAny],
    )
    def log_in(self, request: Request) -> Response:
        given = {**self.content(Credentials), "address": _place(request)}
        if given.pop("session"):
            user = operations.open_session(**given)
            auth.login(_plain(request), user, backend=BACKEND)
            return written(LoggedIn({"token": None, "user": user}).data)
        token, user = operations.log_in(**given)
        return written(LoggedIn({"token": token, "user": user}).data)

    @extend_schema(
        operation_id="log_out",
        summary="Log out",
        description="The token (or the session) ends at once.",
        request=None,
        responses={200: NOTHING},
    )
    @action(detail=False, methods=["post"], url_path="logout")
    def log_out(self, request: Request) -> Response:
        self.content(Nothing)
        if isinstance(request.auth, str):
            operations.log_out(access_token=request.auth)
        else:
            browser = _plain(request)
            operations.close_session(self.user, session_key=browser.session.session_key or "")
            auth.logout(browser)
        return written(None)

    @extend_schema(
        operation_id="change_password",
        summary="Change my password",
        description="All your tokens and sessions end at once, also the one that asks: log in again. A wrong "
        "present password counts like a log-in that failed.",
        request=PasswordChange,
        responses={200: NOTHING},
    )
    @action(detail=False, methods=["post"], url_path="password")
    def change_password(self, request: Request) -> Response:
        operations.change_password(actor=self.user, **self.content(PasswordChange), address=_place(request))
        if not isinstance(request.auth, str):
            auth.logout(_plain(request))
        return written(None)

    @extend_schema(
        operation_id="accept_invitation",
        summary="Accept an invitation",
        description="Sets the first password of somebody who was added to an account, once and before the "
        "invitation expires; then log in.",
        request=Acceptance,
        responses={200: USER_WRITTEN},
    )
    @action(
        detail=False,
        methods=["post"],
        url_path="invitations/accept",
        authentication_classes=[],
        permission_classes=[AllowAny],
    )
    def accept_invitation(self, request: Request) -> Response:
        user = operations.accept_invitation(**self.content(Acceptance), address=_place(request))
        return written(UserFields(user).data)

    @extend_schema(operation_id="me", summary="Who am I", request=None, responses={200: Me})
    @action(detail=False, methods=["get"], url_path="me")
    def me(self, _request: Request) -> Response:
        return Response(Me(self.user).data)


def _place(request: Request) -> str:
    """Where failures are counted; "" where the server could not say, so that they aren't everybody's."""
    address = callers.address_of(request)
    return "" if address == callers.UNKNOWN else callers.neighbourhood(address)


def _plain(request: Request) -> HttpRequest:
    """Django's own request: log in and out change its session."""
    return request._request  # noqa: SLF001 (DRF gives no other way)
