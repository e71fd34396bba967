"""Django's PostgreSQL backend, plus: the embedded server starts on first use, and an unfit server is refused."""
