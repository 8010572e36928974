#!/usr/bin/env bash
# What a container of the image is: infra/container.sh mlflow | prefect | worker | s3 | ssh
# Passwords come from the environment; what a server wants as a file is written where only its user reads.
set -euo pipefail
umask 077
database=${RETORT_POSTGRES_HOST:-postgres}:5432

case ${1:?mlflow, prefect, worker, s3 or ssh} in
  mlflow)
    user="postgresql+psycopg2://retort:${RETORT_POSTGRES_PASSWORD:?}"
    printf '%s\n' '[mlflow]' 'default_permission = READ' "database_uri = $user@$database/mlflow_users" \
      'admin_username = admin' 'authorization_function = mlflow.server.auth:authenticate_request_basic_auth' \
      'auth_cache_ttl_seconds = 60' > /tmp/mlflow_auth.ini
    export MLFLOW_AUTH_CONFIG_PATH=/tmp/mlflow_auth.ini MLFLOW_AUTH_ADMIN_PASSWORD=${RETORT_MLFLOW_PASSWORD:?}
    export MLFLOW_FLASK_SERVER_SECRET_KEY=${RETORT_MLFLOW_COOKIES:?} MLFLOW_BACKEND_STORE_URI=$user@$database/mlflow
    export MLFLOW_ARTIFACTS_DESTINATION=${MLFLOW_ARTIFACTS_DESTINATION:-/data/mlartifacts}
    exec mlflow server --app-name basic-auth --host 0.0.0.0 --port 5000 --workers 2 \
      --allowed-hosts "${MLFLOW_ALLOWED_HOSTS:-mlflow:5000,localhost:5000}" ;;
  prefect)
    export PREFECT_SERVER_DATABASE_CONNECTION_URL="postgresql+asyncpg://retort:${RETORT_POSTGRES_PASSWORD:?}@$database/prefect"
    export PREFECT_SERVER_API_AUTH_STRING=retort:${RETORT_PREFECT_PASSWORD:?} PREFECT_HOME=/data/prefect
    # Kept in files: in memory, as by default, a restart forgets which run holds the deployment's one place.
    export PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE=prefect.server.concurrency.lease_storage.filesystem
    export PREFECT_API_AUTH_STRING=$PREFECT_SERVER_API_AUTH_STRING
    exec prefect server start --host 0.0.0.0 --port 4200 ;;
  worker)
    export MLFLOW_TRACKING_URI=http://mlflow:5000 MLFLOW_TRACKING_USERNAME=admin
    export MLFLOW_TRACKING_PASSWORD=${RETORT_MLFLOW_PASSWORD:?}
    export PREFECT_API_URL=http://prefect:4200/api PREFECT_API_AUTH_STRING=retort:${RETORT_PREFECT_PASSWORD:?}
    export PREFECT_HOME=/tmp/prefect PREFECT_CLIENT_MAX_RETRIES=8
    export PREFECT_WORKER_WEBSERVER_HOST=0.0.0.0 PREFECT_WORKER_WEBSERVER_PORT=8081
    exec prefect worker start --pool retort --type process --with-healthcheck --install-policy never ;;
  s3)
    # For trying out: it keeps its data in memory, and takes any key.
    exec moto_server -H 0.0.0.0 -p 9000 ;;
  ssh)
    # The clients' public keys lie in /keys/authorized_keys; the server's own key is drawn once, beside the data.
    [ -f /data/host_key ] || ssh-keygen -q -t ed25519 -N '' -f /data/host_key
    exec /usr/sbin/sshd -D -e -p 2222 -o HostKey=/data/host_key -o AuthorizedKeysFile=/keys/authorized_keys \
      -o PidFile=/tmp/sshd.pid -o UsePAM=no -o PasswordAuthentication=no -o KbdInteractiveAuthentication=no \
      -o StrictModes=no ;;
  *)
    echo "error: container.sh: no role '$1'; there are: mlflow, prefect, worker, s3, ssh" >&2
    exit 1 ;;
esac
