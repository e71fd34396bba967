"""How does Django reach PostgreSQL? (The module's name and class are what Django asks of a backend.)"""

from django.db.backends.postgresql import base


class DatabaseWrapper(base.DatabaseWrapper):
    pass
