"""Who uses Data Pusher, for which accounts, and where do their events go?

Writes go through `operations`, reads through `queries`. Deletions cascade by the ORM, not by the database,
and no table's name is a part of another's: the query cache goes by the names that it sees in statements.
"""

from collections.abc import Iterable, Mapping
from typing import ClassVar

from django.conf import settings
from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.db import models
from django.db.models import BooleanField, CheckConstraint, F, Func, Q, UniqueConstraint
from django.db.models.functions import Now
from django.utils.crypto import salted_hmac

from accounts import masks, vault
from accounts import validators as v
from accounts.encryption import Undecryptable
from accounts.fields import WholeNumbers
from accounts.letters import Letter
from accounts.roles import NAMES, RoleName
from eventstore.identifiers import uuid7

ENCRYPTED = r"^[0-9A-Za-z]{1,16}[.][0-9A-Za-z_-]{38,}={0,2}$"
CONTROL = r"[\u0001-\u001f\u007f-\u009f\u2028\u2029]"


def default_rate_limit() -> int:
    return min(settings.RATE_LIMIT_DEFAULT, settings.RATE_LIMIT_MAX)


def default_timeout() -> int:
    return int(settings.DELIVERY_TIMEOUT)


def default_retry_schedule() -> list[int]:
    return list(settings.RETRY_SCHEDULE)


def _holds(condition: str, field: str) -> Func:
    """A condition that Django has no lookup for, as SQL; `{}` is the field."""
    template = condition.replace("{}", "%(expressions)s")
    return Func(F(field), template=template, output_field=BooleanField())


class Kept(models.Model):
    """Who made it and changed it last, and when, by the database's clock; kept by itself."""

    created_at = models.DateTimeField(db_default=Now(), editable=False)
    updated_at = models.DateTimeField(db_default=Now(), editable=False)
    created_by = models.ForeignKey(
        "accounts.User", models.PROTECT, related_name="+", editable=False, db_index=False
    )
    updated_by = models.ForeignKey(
        "accounts.User", models.PROTECT, related_name="+", editable=False, db_index=False
    )

    class Meta:
        abstract = True

    def save(
        self,
        *,
        actor: "User | None" = None,
        force_insert: bool | tuple[models.base.ModelBase, ...] = False,
        force_update: bool = False,
        using: str | None = None,
        update_fields: Iterable[str] | None = None,
    ) -> None:
        """`actor`: who wants it. None is the program itself, which may change but not create."""
        kept = self._keep(actor)
        super().save(
            force_insert=force_insert,
            force_update=force_update,
            using=using,
            update_fields=None if update_fields is None else {*update_fields, *kept},
        )

    def _keep(self, actor: "User | None") -> set[str]:
        if self._state.adding:
            if actor is not None:
                self.created_by = self.updated_by = actor
            return set()
        self.updated_at = Now()
        if actor is None:
            return {"updated_at"}
        self.updated_by = actor
        return {"updated_at", "updated_by"}


class Revised(Kept):
    """A thing that two may want to change at once: each change makes the next revision."""

    revision = models.PositiveIntegerField(default=1, editable=False)

    class Meta:
        abstract = True

    def _keep(self, actor: "User | None") -> set[str]:
        kept = super()._keep(actor)
        if self._state.adding:
            return kept
        self.revision += 1  # its row is locked by whoever changes it
        return {*kept, "revision"}


class UserManager(BaseUserManager["User"]):
    def get_by_natural_key(self, username: str | None) -> "User":
        return self.get(email=v.normalise_email(username or ""))


class User(Kept, AbstractBaseUser):
    """A person. One who was only invited has no password until the invitation is accepted."""

    last_login = None  # every log-in is an event

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    email = models.CharField(max_length=v.LONGEST_EMAIL, unique=True, validators=[v.validate_email])
    registered = models.BooleanField(default=False)
    is_active = models.BooleanField(default=True)
    session_epoch = models.PositiveIntegerField(db_default=0, editable=False)

    objects = UserManager()

    USERNAME_FIELD = "email"
    EMAIL_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []

    class Meta:
        constraints = [
            CheckConstraint(condition=Q(email__regex=v.EMAIL), name="user_email_is_an_address_in_lower_case"),
        ]

    def __str__(self) -> str:
        return f"user {self.pk}"

    def _get_session_auth_hash(self, secret: str | None = None) -> str:
        """What a session must have been begun with: another password or epoch ends it."""
        value = f"{self.session_epoch} {self.password}"
        return salted_hmac("accounts.session", value, secret=secret, algorithm="sha256").hexdigest()


class AccessToken(models.Model):
    """A key to the management API, for one user; only its digest is known. Gone: ended."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user = models.ForeignKey(User, models.CASCADE, related_name="access_tokens")
    digest = models.BinaryField(unique=True)
    created_at = models.DateTimeField(db_default=Now())
    expires_at = models.DateTimeField()

    class Meta:
        indexes = [models.Index(fields=["expires_at"], name="access_token_end")]
        constraints = [
            CheckConstraint(condition=_holds("octet_length({}) = 32", "digest"), name="access_token_digest"),
        ]

    def __str__(self) -> str:
        return f"access token {self.pk}"


class Invitation(models.Model):
    """A key to set one's first password, once; only its digest is known. A newer one takes its place."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user = models.OneToOneField(User, models.CASCADE, related_name="invitation")
    digest = models.BinaryField(unique=True)
    created_at = models.DateTimeField(db_default=Now())
    expires_at = models.DateTimeField()

    class Meta:
        constraints = [
            CheckConstraint(condition=_holds("octet_length({}) = 32", "digest"), name="invitation_digest"),
        ]

    def __str__(self) -> str:
        return f"invitation {self.pk}"


class Failure(models.Model):
    """How often somebody failed to log in lately, under a key that doesn't say who (`slowdown`)."""

    key = models.BinaryField(primary_key=True)
    failures = models.PositiveIntegerField(default=0)
    paused_until = models.DateTimeField(null=True)
    last_at = models.DateTimeField(db_default=Now())

    class Meta:
        indexes = [models.Index(fields=["last_at"], name="failure_last")]
        constraints = [
            CheckConstraint(condition=_holds("octet_length({}) = 32", "key"), name="failure_key"),
        ]

    def __str__(self) -> str:
        return f"{self.failures} failures"


class KeptAnswer(models.Model):
    """What a request with an `Idempotency-Key` was answered, encrypted; nothing yet while it is under way."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user = models.ForeignKey(User, models.CASCADE, related_name="+", db_index=False)
    key = models.CharField(max_length=255)
    request_digest = models.BinaryField()
    status = models.SmallIntegerField(null=True)
    encrypted_answer = models.TextField(blank=True, default="")
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        indexes = [models.Index(fields=["created_at"], name="kept_answer_age")]
        constraints = [
            UniqueConstraint(fields=["user", "key"], name="kept_answer_once_per_key"),
            CheckConstraint(condition=Q(key__regex="^[!-~]{1,255}$"), name="kept_answer_key"),
            CheckConstraint(
                condition=_holds("octet_length({}) = 32", "request_digest"), name="kept_answer_request"
            ),
            CheckConstraint(
                condition=Q(status=None, encrypted_answer="")
                | Q(status__range=(200, 299), encrypted_answer__regex=ENCRYPTED, status__isnull=False),
                name="kept_answer_is_whole",
            ),
        ]

    def __str__(self) -> str:
        return f"kept answer {self.pk}"


class Account(Revised):
    """What events are sent to and logs belong to."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    name = models.CharField(max_length=v.LONGEST_NAME, validators=[v.validate_name])
    website = models.CharField(
        max_length=v.LONGEST_URL, blank=True, default="", validators=[v.validate_website]
    )
    rate_limit_per_second = models.IntegerField(
        default=default_rate_limit, validators=[v.validate_rate_limit]
    )
    token_hint = models.CharField(max_length=32, db_default="", editable=False)
    token_created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints = [
            CheckConstraint(
                condition=Q(name__regex=r"\S") & ~Q(name__regex=CONTROL), name="account_name_is_visible_text"
            ),
            CheckConstraint(
                condition=Q(website="") | Q(website__regex=v.WEBSITE), name="account_website_is_http"
            ),
            CheckConstraint(
                condition=Q(rate_limit_per_second__range=(1, v.HIGHEST_RATE_LIMIT)), name="account_rate_limit"
            ),
        ]

    def __str__(self) -> str:
        return f"account {self.pk}"


class IngestToken(models.Model):
    """A secret that sends events to its account. Several are valid at once while one replaces another."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    account = models.ForeignKey(Account, models.CASCADE, related_name="ingest_tokens", db_index=False)
    key_id = models.CharField(max_length=12, unique=True)
    digest = models.BinaryField()
    hint = models.CharField(max_length=32)
    created_at = models.DateTimeField(db_default=Now())
    expires_at = models.DateTimeField(null=True)

    class Meta:
        indexes = [models.Index(fields=["account", "-created_at"], name="ingest_token_newest")]
        constraints = [
            CheckConstraint(condition=Q(key_id__regex="^[0-9A-Za-z]{12}$"), name="ingest_token_key_id"),
            CheckConstraint(condition=_holds("octet_length({}) = 32", "digest"), name="ingest_token_digest"),
        ]

    def __str__(self) -> str:
        return self.hint


class Destination(Revised):
    """A web address that gets every event of its account; `paused`: they wait, not `active`: it gets none."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    account = models.ForeignKey(Account, models.CASCADE, related_name="destinations", db_index=False)
    url = models.CharField(max_length=v.LONGEST_URL, validators=[v.validate_url])
    http_method = models.CharField(max_length=6, validators=[v.validate_http_method])
    encrypted_headers = models.TextField(editable=False)
    active = models.BooleanField(default=True)
    paused = models.BooleanField(default=False, editable=False)
    timeout_seconds = models.SmallIntegerField(default=default_timeout, validators=[v.validate_timeout])
    retry_schedule_seconds = WholeNumbers(
        default=default_retry_schedule, validators=[v.validate_retry_schedule]
    )
    encrypted_signing_secret = models.TextField(editable=False)
    encrypted_previous_signing_secret = models.TextField(blank=True, default="", editable=False)
    previous_signing_secret_ends_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        indexes = [models.Index(fields=["account", "id"], name="destination_of_account")]
        constraints = [
            CheckConstraint(
                condition=Q(url__regex="^[hH][tT][tT][pP][sS]?://[!-~]+$"), name="destination_url"
            ),
            CheckConstraint(condition=Q(http_method__in=v.HTTP_METHODS), name="destination_http_method"),
            CheckConstraint(
                condition=Q(timeout_seconds__range=v.TIMEOUT_SECONDS), name="destination_timeout"
            ),
            CheckConstraint(
                condition=_holds(f"cardinality({{}}) <= {v.MOST_RETRIES}", "retry_schedule_seconds")
                & _holds("array_position({}, NULL) IS NULL", "retry_schedule_seconds")
                & _holds(f"{v.RETRY_SECONDS[0]} <= ALL({{}})", "retry_schedule_seconds")
                & _holds(f"{v.RETRY_SECONDS[1]} >= ALL({{}})", "retry_schedule_seconds"),
                name="destination_retry_schedule",
            ),
            CheckConstraint(
                condition=Q(encrypted_headers__regex=ENCRYPTED)
                & Q(encrypted_signing_secret__regex=ENCRYPTED),
                name="destination_secrets_are_encrypted",
            ),
            CheckConstraint(
                condition=Q(encrypted_previous_signing_secret="", previous_signing_secret_ends_at=None)
                | Q(
                    encrypted_previous_signing_secret__regex=ENCRYPTED,
                    previous_signing_secret_ends_at__isnull=False,
                ),
                name="destination_previous_secret_ends",
            ),
        ]

    def __str__(self) -> str:
        return f"destination {self.pk}"

    @property
    def headers(self) -> dict[str, str]:
        """As they are sent. Raises encryption.Undecryptable."""
        return dict(
            vault.decrypt_headers(self.encrypted_headers, account_id=self.account_id, destination_id=self.pk)
        )

    @property
    def shown_headers(self) -> dict[str, str]:
        """As people may see them: secret values are masked. None at all when they can't be decrypted."""
        return masks.mask(self.readable_headers or {})

    @property
    def readable_headers(self) -> dict[str, str] | None:
        """As they are sent; None when they can't be decrypted."""
        try:
            return self.headers
        except Undecryptable:
            return None

    @property
    def has_readable_signing_secret(self) -> bool:
        try:
            vault.decrypt_signing_secret(
                self.encrypted_signing_secret, account_id=self.account_id, destination_id=self.pk
            )
        except Undecryptable:
            return False
        return True

    def keep_headers(self, headers: Mapping[str, str]) -> None:
        self.encrypted_headers = vault.encrypt_headers(
            tuple(headers.items()), account_id=self.account_id, destination_id=self.pk
        )

    def keep_signing_secret(self, secret: bytes) -> None:
        self.encrypted_signing_secret = vault.encrypt_signing_secret(
            secret, account_id=self.account_id, destination_id=self.pk
        )


class Role(models.Model):
    """What a member may do (`roles` has the table). Exactly two rows, written by a migration."""

    id = models.SmallIntegerField(primary_key=True)
    role_name = models.CharField(max_length=20, unique=True, validators=[v.validate_role])
    created_at = models.DateTimeField(db_default=Now())
    updated_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [
            CheckConstraint(
                condition=Q(id=1, role_name="Admin") | Q(id=2, role_name="Normal user"), name="role_is_known"
            ),
        ]

    def __str__(self) -> str:
        return self.role_name


class Member(Revised):
    """A user's place in an account."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    account = models.ForeignKey(Account, models.CASCADE, related_name="members", db_index=False)
    user = models.ForeignKey(User, models.PROTECT, related_name="members")
    role = models.ForeignKey(Role, models.PROTECT, related_name="+", db_index=False)
    invitation: Letter | None = None

    class Meta:
        constraints = [UniqueConstraint(fields=["account", "user"], name="member_once_per_account")]

    def __str__(self) -> str:
        return f"member {self.pk}"

    @property
    def role_name(self) -> RoleName:
        return NAMES[self.role_id]

    @property
    def invitation_sent(self) -> bool | None:
        """Of a member just added, after the commit. None: the user needed no invitation."""
        return None if self.invitation is None else self.invitation.sent
