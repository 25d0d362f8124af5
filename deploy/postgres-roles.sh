#!/bin/sh
# Run by the image of PostgreSQL when it makes the database: the role of the results API, which owns nothing.
# `dianzan migrate` grants it what it reads.
set -eu
psql --set ON_ERROR_STOP=1 --set password="$(cat /run/secrets/results_password)" \
  --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" <<'END'
CREATE ROLE dianzan_results LOGIN PASSWORD :'password';
END
