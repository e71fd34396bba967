"""All settings, flat: each is read once from the environment, typed, and fails by its name at start."""

from pathlib import Path

from django.utils.csp import CSP

from api.document import DOCUMENT
from config import logs, reporting, secrets, traffic
from config.address import own_url
from config.caches import MAX_ENTRIES
from config.database import database
from config.environment import flag, listed, number, text
from config.mail import mailer

BASE_DIR = Path(__file__).resolve().parent.parent
DATA_DIR = Path(text("DATA_DIR", str(BASE_DIR / ".data"))).resolve()

# --- PostgreSQL -------------------------------------------------------------------------------------------
DATABASE_URL = text("DATABASE_URL")
MIGRATION_DATABASE_URL = text("MIGRATION_DATABASE_URL", DATABASE_URL)
EMBEDDED = not DATABASE_URL
EMBEDDED_POSTGRES = number("EMBEDDED_POSTGRES", 18, low=16, high=18)
DATABASES = {
    "default": database(
        DATABASE_URL,
        owner_url=MIGRATION_DATABASE_URL,
        pool=flag("DATABASE_POOL", default=False),
        data_dir=DATA_DIR,
    )
}
REDIS_URL = text("REDIS_URL")

# --- Secrets: made and kept in DATA_DIR for the embedded start, required otherwise --------------------------
SECRET_KEY = secrets.secret_key(DATA_DIR, may_create=EMBEDDED)
ENCRYPTION_KEYS = secrets.encryption_keys(DATA_DIR, may_create=EMBEDDED)

# --- Where we listen --------------------------------------------------------------------------------------
HOST = text("HOST", "127.0.0.1")
PORT = number("PORT", 8000, low=1, high=65535)
WEB_WORKERS = number("WEB_WORKERS", 1, low=1, high=64)
ALLOWED_HOSTS = listed("ALLOWED_HOSTS") or ["*"]
CSRF_TRUSTED_ORIGINS = listed("CSRF_TRUSTED_ORIGINS")
PUBLIC_URL = text("PUBLIC_URL", own_url(HOST, PORT)).rstrip("/")
TRUSTED_PROXIES = number("TRUSTED_PROXIES", 0, high=16)
BEHIND_TLS = flag("BEHIND_TLS", default=False)
DEBUG = False

# --- Traffic and what is seen of it -----------------------------------------------------------------------
THROTTLE_USER = traffic.rate("THROTTLE_USER", text("THROTTLE_USER", "1200/min"))
THROTTLE_ANONYMOUS = traffic.rate("THROTTLE_ANONYMOUS", text("THROTTLE_ANONYMOUS", "120/min"))
CORS_ALLOWED_ORIGINS = traffic.origins("CORS_ALLOWED_ORIGINS", listed("CORS_ALLOWED_ORIGINS"))
METRICS_TOKEN = traffic.token("METRICS_TOKEN", text("METRICS_TOKEN"))
LOG_LEVEL = traffic.one_of("LOG_LEVEL", text("LOG_LEVEL", "INFO").upper(), logs.LEVELS)
SENTRY_DSN = reporting.checked_dsn(text("SENTRY_DSN"))
SENTRY_ENVIRONMENT = text("SENTRY_ENVIRONMENT", "production")
LOG_FORMAT = traffic.one_of("LOG_FORMAT", text("LOG_FORMAT", "json"), logs.FORMATS)

# --- What the product promises, and its bounds ------------------------------------------------------------
RATE_LIMIT_DEFAULT = 5
RATE_LIMIT_MAX = number("RATE_LIMIT_MAX", 1000, low=1, high=1_000_000)
MAX_EVENT_BYTES = number("MAX_EVENT_BYTES", 1 << 20, low=1, high=64 << 20)
DESTINATIONS_PER_ACCOUNT = number("DESTINATIONS_PER_ACCOUNT", 100, low=1, high=10_000)
INVITATION_SECONDS = number("INVITATION_SECONDS", 7 * 24 * 3600, low=60)
DESTINATION_ALLOW = listed("DESTINATION_ALLOW")
DESTINATION_IPV6 = flag("DESTINATION_IPV6", default=False)
RETRY_SCHEDULE = [
    5,
    30,
    120,
    600,
    1800,
    7200,
    18_000,
    36_000,
    50_400,
    72_000,
    86_400,
]  # seconds: 3 days
RETRY_JITTER = 0.2
DELIVERY_TIMEOUT = 15
DELIVERY_TIMEOUT_MAX = 30

# --- Delivering: deadline < lease < Q2 timeout < Q2 retry, checked at start (outbox.checks) ---------------
LEASE_SECONDS = number("LEASE_SECONDS", 60, low=1)
LEASE_MARGIN_SECONDS = number("LEASE_MARGIN_SECONDS", 5)
DRAIN_SLOTS = number("DRAIN_SLOTS", 2, low=1, high=32)
DRAIN_SECONDS = number("DRAIN_SECONDS", 240, low=1)
DRAIN_CONCURRENCY = number("DRAIN_CONCURRENCY", 128, low=1, high=4096)
DRAIN_PER_DESTINATION = number("DRAIN_PER_DESTINATION", 32, low=1)
DRAIN_BYTES = number("DRAIN_BYTES", 32 << 20, low=1 << 20)
SHUTDOWN_GRACE_SECONDS = number("SHUTDOWN_GRACE_SECONDS", 40, low=1)
CIRCUIT_FAILURES_IN_A_ROW = number("CIRCUIT_FAILURES_IN_A_ROW", 20, low=1)
CIRCUIT_WINDOW_ATTEMPTS = number("CIRCUIT_WINDOW_ATTEMPTS", 50, low=1)
CIRCUIT_WINDOW_FAILED_PERCENT = number("CIRCUIT_WINDOW_FAILED_PERCENT", 80, low=1, high=100)
CIRCUIT_FIRST_PROBE_SECONDS = number("CIRCUIT_FIRST_PROBE_SECONDS", 5, low=1)
CIRCUIT_LAST_PROBE_SECONDS = number("CIRCUIT_LAST_PROBE_SECONDS", 300, low=1)
READY_PER_DESTINATION = number("READY_PER_DESTINATION", 1000, low=1)

Q_CLUSTER = {
    "name": "data-pusher",
    "orm": "default",
    "workers": DRAIN_SLOTS + 2,  # two stay free of drains: purges, imports
    "poll": 0.2,
    "bulk": 10,
    "timeout": number("Q_TIMEOUT", 300, low=1),
    "retry": number("Q_RETRY", 360, low=1),
    "ack_failures": True,
    "max_attempts": 3,
    "save_limit": -1,
    "catch_up": False,
    "guard_cycle": 0.5,
    "recycle": 500,
    "max_rss": 300_000,
    "label": "Tasks",
}
if REDIS_URL:
    Q_CLUSTER["redis"] = REDIS_URL
    del Q_CLUSTER["orm"]

# --- Django ----------------------------------------------------------------------------------------------
INSTALLED_APPS = [
    "config.apps.ConfigConfig",
    "cachalot",  # before accounts, which says what may be cached
    "eventstore",
    "accounts",
    "delivery",
    "outbox",
    "api",
    "demo",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "django_q",
    "django_filters",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
]
MIDDLEWARE = [
    "api.requests.Noting",
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.csp.ContentSecurityPolicyMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    *(["corsheaders.middleware.CorsMiddleware"] if CORS_ALLOWED_ORIGINS else []),
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "api.caching.Reading",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "api.preconditions.ConditionalGet",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]
ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
ASGI_APPLICATION = "config.asgi.application"
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]
CACHES = {
    "default": (
        {
            "BACKEND": "django.core.cache.backends.redis.RedisCache",
            "LOCATION": REDIS_URL,
            "OPTIONS": {"socket_connect_timeout": 0.5, "socket_timeout": 0.5},
        }
        if REDIS_URL
        # Room for the throttles' clients: beyond it, counts are forgotten.
        else {
            "BACKEND": "django.core.cache.backends.locmem.LocMemCache",
            "OPTIONS": {"MAX_ENTRIES": 20_000},
        }
    ),
    "cachalot": {
        "BACKEND": "config.caches.Shared" if REDIS_URL else "config.caches.InProcess",
        "LOCATION": REDIS_URL or "cachalot",
        "KEY_PREFIX": "data-pusher",
        "OPTIONS": (
            {"socket_connect_timeout": 0.5, "socket_timeout": 0.5}
            if REDIS_URL
            else {"MAX_ENTRIES": MAX_ENTRIES}
        ),
    },
}
# Only for requests that read, by the generation that each finds in PostgreSQL (ADR "Cached by generation").
CACHALOT_CACHE = "cachalot"
CACHALOT_QUERY_KEYGEN = "accounts.generations.key"
CACHALOT_ONLY_CACHABLE_TABLES = (
    "accounts_account",
    "accounts_destination",
    "accounts_member",
    "accounts_role",
    "accounts_user",
)
CACHALOT_TIMEOUT = 30
CACHALOT_INVALIDATE_RAW = True
CACHALOT_FINAL_SQL_CHECK = True
CACHALOT_ADDITIONAL_SUPPORTED_DATABASES = {"config.postgres"}
SILENCED_SYSTEM_CHECKS = ["cachalot.W001"]  # our caches are Django's with bounds, under names of their own
SESSION_ENGINE = "api.sessions"
CSRF_FAILURE_VIEW = "api.errors.csrf_failure"
AUTH_USER_MODEL = "accounts.User"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.Argon2PasswordHasher"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_I18N = False
USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en"
# Browsers: our pages are only ours, and nothing is loaded but by the documents (api.documents says what).
SECURE_CSP: dict[str, list[str]] = {
    "default-src": [CSP.NONE],
    "base-uri": [CSP.NONE],
    "form-action": [CSP.NONE],
    "frame-ancestors": [CSP.NONE],
}
if BEHIND_TLS:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    SECURE_HSTS_SECONDS = 365 * 24 * 3600
    SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = True
# Scripts of other origins come with a bearer token; cookies they may not use.
CORS_URLS_REGEX = r"^/api/"
CORS_ALLOW_HEADERS = (
    "accept",
    "authorization",
    "content-type",
    "idempotency-key",
    "if-match",
    "if-none-match",
    "x-request-id",
)
CORS_EXPOSE_HEADERS = ("etag", "idempotency-replayed", "retry-after", "x-request-id")
STATIC_URL = "/static/"
WHITENOISE_USE_FINDERS = True
WHITENOISE_ALLOW_ALL_ORIGINS = False
MAILERS = {"default": mailer()}
DEFAULT_FROM_EMAIL = text("EMAIL_FROM", "data-pusher@localhost")
DATA_UPLOAD_MAX_MEMORY_SIZE = 1 << 20
APPEND_SLASH = False

REST_FRAMEWORK = {
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
}
SPECTACULAR_SETTINGS = DOCUMENT
LOGGING = logs.configuration(level=LOG_LEVEL, form=LOG_FORMAT)
