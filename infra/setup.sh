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
  if ! "$venv-uv/bin/uv" --version >/dev/null 2>&1; then
    "$python" -m venv --clear "$venv-uv"
    "$venv-uv/bin/python" -m pip install --quiet --disable-pip-version-check uv
  fi
  export PATH="$PWD/$venv-uv/bin:$PATH"
fi

echo "setting up $venv (about 7 GB of wheels the first time)"
# Its commands name their Python relatively: they go on working where the project's folder is moved or copied. One of an
# earlier release names the folder that it was made in, and is made again.
if ! "$venv/bin/python" --version >/dev/null 2>&1 || ! grep -q '^relocatable = true' "$venv/pyvenv.cfg"; then
  uv venv --quiet --clear --relocatable --python "$python" "$venv"
fi
uv pip sync --quiet --python "$venv/bin/python" --require-hashes requirements.lock
uv pip install --quiet --python "$venv/bin/python" --no-deps --editable .
