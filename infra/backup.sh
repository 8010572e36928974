#!/usr/bin/env bash
# Keep the registry and Prefect: infra/backup.sh FOLDER [ARTIFACTS]
# The servers may run. PGHOST, PGPORT, PGUSER, PGPASSWORD say where: `source .retort/stack/postgres.env`.
set -euo pipefail
umask 077
into=${1:?infra/backup.sh FOLDER [ARTIFACTS]} artifacts=${2:-.retort/stack/mlartifacts}

if [ -e "$into" ]; then
  echo "error: $into: is there already; name a new folder" >&2
  exit 1
fi
rm -rf "$into.unready"
mkdir -p "$into.unready"
for database in mlflow mlflow_users prefect; do
  pg_dump --format=custom --dbname="$database" --file="$into.unready/$database.dump"
done
# Files after databases: one that came meanwhile is one too many, where the other order would miss one.
mkdir -p "$artifacts"
cp -a "$artifacts" "$into.unready/mlartifacts"
(cd "$into.unready" && find . -type f ! -name SHA256SUMS -print0 | sort -z | xargs -0 sha256sum > SHA256SUMS)
mv "$into.unready" "$into"
echo "$into: $(wc -l < "$into/SHA256SUMS") files"
