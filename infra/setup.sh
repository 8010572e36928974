#!/usr/bin/env bash
# Set up the virtual environment from requirements.lock. Usage: infra/setup.sh PYTHON VENV
set -euo pipefail
python=$1 venv=$2

command -v "$python" >/dev/null || python=python3
"$python" - <<'PY' || {
import sys
sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))
PY
  echo "error: Retort needs Python 3.11 to 3.14, and $python says: $("$python" --version 2>&1 | head -n 1);" \
    "name another with: make PYTHON=python3.12 …" >&2
  exit 1
}

if ! command -v uv >/dev/null; then
  # Into a corner of its own: pip may be forbidden to touch the system's packages.
  "$python" -m venv "$venv-uv"
  "$venv-uv/bin/pip" install --quiet --disable-pip-version-check uv
  export PATH="$PWD/$venv-uv/bin:$PATH"
fi

echo "setting up $venv (about 7 GB of wheels the first time)"
[ -x "$venv/bin/python" ] || uv venv --quiet --python "$python" "$venv"
uv pip sync --quiet --python "$venv/bin/python" --require-hashes requirements.lock
uv pip install --quiet --python "$venv/bin/python" --no-deps --editable .
