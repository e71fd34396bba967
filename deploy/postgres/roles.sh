#!/bin/sh
# On the first start of the database's container: the owner of the tables, and the program, which owns nothing.
set -eu

psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres \
    --set owner="$OWNER_PASSWORD" --set application="$APPLICATION_PASSWORD" <<'SQL'
CREATE ROLE datapusher_owner LOGIN PASSWORD :'owner';
CREATE ROLE datapusher LOGIN PASSWORD :'application';
GRANT datapusher TO datapusher_owner;
CREATE DATABASE datapusher OWNER datapusher_owner;
REVOKE CONNECT ON DATABASE datapusher FROM PUBLIC;
GRANT CONNECT ON DATABASE datapusher TO datapusher;
SQL
