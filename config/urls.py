"""Which paths does Django answer? (The receiver and the health checks stand in front of it: api.doors.)"""

from django.urls import URLPattern, URLResolver, include, path
from django.views.generic import RedirectView

from api import documents

urlpatterns: list[URLPattern | URLResolver] = [
    path("", RedirectView.as_view(pattern_name="docs"), name="home"),
    path("api/v1/", include("api.urls")),
    path("api/schema/", documents.Document.as_view(), name="schema"),
    path("api/docs/", documents.Swagger.as_view(url_name="schema"), name="docs"),
    path("api/redoc/", documents.Redoc.as_view(url_name="schema"), name="redoc"),
]

handler400 = "api.errors.bad_request"
handler403 = "api.errors.permission_denied"
handler404 = "api.errors.not_found"
handler500 = "api.errors.server_error"
