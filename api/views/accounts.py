"""The accounts that the caller is a member of."""

from typing import TYPE_CHECKING, ClassVar

from django.contrib.auth import get_user_model
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from accounts import generations, operations, queries
from accounts.operations import access
from accounts.roles import Action
from api import filters, problems
from api.endpoint import Endpoint, found, written
from api.fields import Moment, Number, Strict, Text
from api.problems import Problem
from api.schema import NOTHING, envelope

if TYPE_CHECKING:
    from accounts.models import Account


class AccountFields(Strict):
    """An account."""

    id = serializers.UUIDField(read_only=True)
    name = Text(help_text="At most 200 characters.")
    website = Text(required=False, allow_blank=True, help_text="http or https; may be empty.")
    rate_limit_per_second = Number(required=False, help_text="Events per second; changed by Admins only.")
    token_hint = serializers.CharField(read_only=True, help_text="Which secret token is the present one.")
    token_created_at = Moment()
    app_secret_token = serializers.CharField(
        read_only=True, required=False, help_text="For `CL-X-TOKEN`. Shown once, when it is made."
    )
    created_at = Moment()
    updated_at = Moment()
    created_by = serializers.UUIDField(source="created_by_id", read_only=True)
    updated_by = serializers.UUIDField(source="updated_by_id", read_only=True)

    class Meta:
        ref_name = "Account"


class NewAccountFields(AccountFields):
    """An account, with the secret token that was just made."""

    app_secret_token = serializers.CharField(
        read_only=True, help_text="For `CL-X-TOKEN`. Shown once, when it is made."
    )

    class Meta:
        ref_name = "NewAccount"


class Rotation(Strict):
    """How long the earlier secret goes on being valid."""

    overlap_seconds = Number(default=0, help_text="From 0 (at once) to 604800.")


class AccountFilters(filters.Kept):
    name = filters.Text()
    website = filters.Text()
    search = filters.Search("name", "website")


WRITTEN = envelope("AccountWritten", AccountFields())
WITH_SECRET = envelope("AccountCreated", NewAccountFields())


@extend_schema_view(
    list=extend_schema(operation_id="list_accounts", summary="Your accounts"),
    retrieve=extend_schema(operation_id="read_account", summary="One account", responses=AccountFields),
    create=extend_schema(
        operation_id="create_account",
        summary="Create an account",
        description="Whoever registered may, and who is Admin of some account; they become its Admin.",
        responses={201: WITH_SECRET},
    ),
    update=extend_schema(
        operation_id="replace_account", summary="Change an account", responses={200: WRITTEN}
    ),
    partial_update=extend_schema(
        operation_id="update_account", summary="Change some fields of an account", responses={200: WRITTEN}
    ),
    destroy=extend_schema(
        operation_id="delete_account",
        summary="Delete an account",
        description="With its destinations, members, logs and payloads. No attempt starts over 2 s later.",
        responses={200: NOTHING},
    ),
)
class Accounts(Endpoint):
    tag = "accounts"
    serializer_class = AccountFields
    filterset_class = AccountFilters
    queryset = queries.accounts_of(get_user_model()())
    orderings: ClassVar[dict[str, str]] = {
        "created_at": "created_at",
        "updated_at": "updated_at",
        "name": "name",
    }
    default_ordering = "-created_at"
    lookup_url_kwarg = "account_id"
    problems: ClassVar[dict[str, tuple[Problem, ...]]] = {
        "create": (problems.FORBIDDEN,),
        "rotate_token": (problems.TOO_MANY_TOKENS,),
    }

    def list(self, _request: Request) -> Response:
        with generations.past_the_cache():  # whose these are is a matter of who is a member
            page = self.paginate_queryset(self.filter_queryset(queries.accounts_of(self.user)))
        return self.get_paginated_response(AccountFields(page, many=True).data)

    def create(self, _request: Request) -> Response:
        made = operations.create_account(actor=self.user, **self.content(AccountFields))
        return _with_secret(made.account, made.app_secret_token)

    def retrieve(self, _request: Request, **_: str) -> Response:
        account_id = self.id("account_id")
        access.require(self.user, account_id, Action.READ_ACCOUNT)
        account = queries.account(self.user, account_id)
        return found(AccountFields(account).data, revision=account.revision)

    def update(self, _request: Request, *, partial: bool = False, **_: str) -> Response:
        account = operations.update_account(
            actor=self.user,
            account_id=self.id("account_id"),
            changes=self.content(AccountFields, partial=partial),
            revision=self.expected,
        )
        return written(AccountFields(account).data, revision=account.revision)

    def partial_update(self, request: Request, **path: str) -> Response:
        return self.update(request, partial=True, **path)

    def destroy(self, _request: Request, **_: str) -> Response:
        operations.delete_account(actor=self.user, account_id=self.id("account_id"), revision=self.expected)
        return written(None)

    @extend_schema(
        operation_id="rotate_token",
        summary="Make a new secret token",
        request=Rotation,
        responses={201: WITH_SECRET},
    )
    @action(detail=True, methods=["post"], url_path="token/rotate")
    def rotate_token(self, _request: Request, **_: str) -> Response:
        made = operations.rotate_token(
            actor=self.user,
            account_id=self.id("account_id"),
            revision=self.expected,
            **self.content(Rotation),
        )
        return _with_secret(made.token.account, made.app_secret_token)


def _with_secret(account: "Account", app_secret_token: str) -> Response:
    shown = AccountFields(account).data | {"app_secret_token": app_secret_token}
    return written(shown, status=201, revision=account.revision)
