#!/usr/bin/env bash
# Put back what infra/backup.sh kept: infra/restore.sh FOLDER [ARTIFACTS]
# PostgreSQL runs, MLflow and Prefect do not. PGHOST, PGPORT, PGUSER, PGPASSWORD say where.
set -euo pipefail
from=${1:?infra/restore.sh FOLDER [ARTIFACTS]} artifacts=${2:-.retort/stack/mlartifacts}

if ! (cd "$from" && sha256sum --check --quiet SHA256SUMS); then
  echo "error: $from: is not what infra/backup.sh wrote; take another backup" >&2
  exit 1
fi
if [ -n "$(ls -A "$artifacts" 2>/dev/null)" ]; then
  echo "error: $artifacts: is not empty; move it away, so that nothing is overwritten" >&2
  exit 1
fi
for database in mlflow mlflow_users prefect; do
  there=$(psql -XAtd postgres -c "SELECT count(*) FROM pg_database WHERE datname = '$database'")
  [ "$there" = 1 ] || createdb "$database"
  tables=$(psql -XAtd "$database" -c "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
  if [ "$tables" != 0 ]; then
    echo "error: database $database has tables; \`dropdb $database\` if you mean to lose them" >&2
    exit 1
  fi
done
for database in mlflow mlflow_users prefect; do
  pg_restore --exit-on-error --single-transaction --no-owner --dbname="$database" "$from/$database.dump"
done
mkdir -p "$artifacts"
cp -a "$from/mlartifacts/." "$artifacts/"
echo "restored from $from"
