"""Django's PostgreSQL backend, plus: the embedded server starts on first use, an unfit server is refused."""
