# The program, for use with a PostgreSQL of its own (DATABASE_URL). compose.yml shows how.
FROM python:3.13-slim AS build
RUN python -m venv /venv
COPY requirements/base.txt /tmp/base.txt
RUN /venv/bin/pip install --no-cache-dir --no-deps --require-hashes -r /tmp/base.txt

FROM python:3.13-slim
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin app
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOST=0.0.0.0
WORKDIR /app
COPY --from=build /venv /venv
COPY . .
RUN python -m compileall -q .
USER app
EXPOSE 8000
CMD ["python", "manage.py", "web"]
