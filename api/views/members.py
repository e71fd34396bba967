"""Who belongs to an account, in which role?"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar
from uuid import UUID

from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import serializers
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from accounts import operations, queries, validators
from accounts.operations import access
from accounts.roles import IDS, NAMES, Action, RoleName
from api import filters, problems
from api.endpoint import Endpoint, found, written
from api.fields import Choice, Moment, Number, Strict, Text
from api.problems import Problem
from api.schema import NOTHING, envelope
from eventstore.events import NO_ACCOUNT

if TYPE_CHECKING:
    from django.db.models import QuerySet

    from accounts.models import Member

LONGEST_INPUT = 2000
ROLES = [role.value for role in RoleName]
ROLE_ID = "1: Admin, 2: Normal user."


class MemberFields(Strict):
    """A member of an account."""

    id = serializers.UUIDField(read_only=True)
    email = serializers.CharField(source="user.email", read_only=True)
    role = Choice(ROLES, source="role_name", required=False, help_text="Required, unless `role_id` is there.")
    role_id = Number(required=False, help_text=ROLE_ID)
    created_at = Moment()
    updated_at = Moment()
    created_by = serializers.UUIDField(source="created_by_id", read_only=True)
    updated_by = serializers.UUIDField(source="updated_by_id", read_only=True)

    class Meta:
        ref_name = "Member"

    def validate_role_id(self, number: int) -> int:
        if number not in NAMES:
            raise ValidationError(f"One of {', '.join(str(number) for number in NAMES)}.")
        return number

    def to_internal_value(self, data: Any) -> Any:
        self.fields["role"].required = isinstance(data, Mapping) and "role_id" not in data
        return super().to_internal_value(data)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """The role, however it was named. Both may be there, as when a member is sent back as it was read."""
        by_id = NAMES[attrs.pop("role_id")].value if "role_id" in attrs else None
        role = attrs.pop("role_name", by_id)
        if by_id is not None and role != by_id:
            raise ValidationError({"role_id": ["It names another role than `role`: leave one of them out."]})
        return {**attrs, "role": role}


class NewMemberFields(MemberFields):
    """Who shall become a member."""

    email = Text(max_length=LONGEST_INPUT, help_text="Who isn't known yet is invited by mail.")

    class Meta:
        ref_name = "NewMember"


class AddedMemberFields(MemberFields):
    """Who became one."""

    invitation_sent = serializers.BooleanField(
        read_only=True,
        allow_null=True,
        help_text="Whether the mail server took the invitation; null when none was needed, or when it goes "
        "out after this answer was made (with an `Idempotency-Key`).",
    )

    class Meta:
        ref_name = "AddedMember"


class MemberFilters(filters.Kept):
    email = filters.Text(method="by_email")
    role = filters.Choice(ROLES, method="by_role")
    search = filters.Search("user__email", label="Contained in the e-mail address.")

    def by_email(self, rows: "QuerySet[Member]", _name: str, text: str) -> "QuerySet[Member]":
        return rows.filter(user__email=validators.normalise_email(text))

    def by_role(self, rows: "QuerySet[Member]", _name: str, role: str) -> "QuerySet[Member]":
        return rows.filter(role=IDS[RoleName(role)])


WRITTEN = envelope("MemberWritten", MemberFields())


@extend_schema_view(
    list=extend_schema(operation_id="list_members", summary="An account's members"),
    retrieve=extend_schema(operation_id="read_member", summary="One member", responses=MemberFields),
    create=extend_schema(
        operation_id="add_member",
        summary="Add a member",
        description="By e-mail address; a user who isn't known yet is made, and invited to set a password.",
        request=NewMemberFields,
        responses={201: envelope("MemberAdded", AddedMemberFields())},
    ),
    update=extend_schema(
        operation_id="replace_member", summary="Change a member's role", responses={200: WRITTEN}
    ),
    partial_update=extend_schema(
        operation_id="update_member", summary="Change a member's role", responses={200: WRITTEN}
    ),
    destroy=extend_schema(
        operation_id="remove_member",
        summary="Remove a member",
        description="From this account, at once; the user stays.",
        responses={200: NOTHING},
    ),
)
class Members(Endpoint):
    tag = "members"
    serializer_class = MemberFields
    filterset_class = MemberFilters
    queryset = queries.members_of(NO_ACCOUNT)
    orderings: ClassVar[dict[str, str]] = {
        "created_at": "created_at",
        "updated_at": "updated_at",
        "email": "user__email",
    }
    default_ordering = "-created_at"
    lookup_url_kwarg = "member_id"
    problems: ClassVar[dict[str, tuple[Problem, ...]]] = {
        "create": (problems.ALREADY_MEMBER,),
        "update": (problems.OWN_ROLE, problems.LAST_ADMIN),
        "partial_update": (problems.OWN_ROLE, problems.LAST_ADMIN),
        "destroy": (problems.LAST_ADMIN,),
    }

    def list(self, _request: Request, **_: str) -> Response:
        page = self.paginate_queryset(self.filter_queryset(queries.members_of(self._readable())))
        return self.get_paginated_response(MemberFields(page, many=True).data)

    def create(self, _request: Request, **_: str) -> Response:
        member = operations.add_member(
            actor=self.user, account_id=self.id("account_id"), **self.content(NewMemberFields)
        )
        return written(AddedMemberFields(member).data, status=201, revision=member.revision)

    def retrieve(self, _request: Request, **_: str) -> Response:
        self._readable()
        member = queries.member(**self._ids())
        return found(MemberFields(member).data, revision=member.revision)

    def update(self, _request: Request, *, partial: bool = False, **_: str) -> Response:
        member = operations.update_member(
            actor=self.user,
            **self._ids(),
            **self.content(MemberFields, partial=partial),
            revision=self.expected,
        )
        return _written(member)

    def partial_update(self, request: Request, **path: str) -> Response:
        return self.update(request, partial=True, **path)

    def destroy(self, _request: Request, **_: str) -> Response:
        operations.remove_member(actor=self.user, **self._ids(), revision=self.expected)
        return written(None)

    def _ids(self) -> dict[str, Any]:
        return {"account_id": self.id("account_id"), "member_id": self.id("member_id")}

    def _readable(self) -> UUID:
        account_id = self.id("account_id")
        access.require(self.user, account_id, Action.READ_MEMBER)
        return account_id


def _written(member: "Member") -> Response:
    return written(MemberFields(member).data, revision=member.revision)
