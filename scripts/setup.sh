#!/bin/sh
# Chooses a Python and has it build the virtual environments named on the command line (product, label-studio).
# PYTHON=... overrides the choice; everything else is said in setup_environments.py.
set -eu
here=$(cd "$(dirname "$0")" && pwd)

# Run it: a name on the PATH may be a version manager's stub for a Python that is not there.
suitable() {
  "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1
}

if [ -n "${PYTHON:-}" ]; then
  if ! suitable "$PYTHON"; then
    echo "setup: PYTHON=$PYTHON is not a Python 3.10 to 3.13 that runs; name one that is, for example PYTHON=python3.11" >&2
    exit 1
  fi
else
  for candidate in python3.11 python3.12 python3.13 python3.10 python3; do
    if suitable "$candidate"; then
      PYTHON=$candidate
      break
    fi
  done
  if [ -z "${PYTHON:-}" ]; then
    echo "setup: no Python 3.10 to 3.13 found; install Python 3.11, or name one with PYTHON=/path/to/python3.11" >&2
    exit 1
  fi
fi
exec "$PYTHON" "$here/setup_environments.py" "$@"
