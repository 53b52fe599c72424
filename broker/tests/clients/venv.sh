#!/bin/bash
# Makes the Python environment of requirements.txt once, in broker/tests/.cache; prints the path of its python.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${MILLSTREAM_TEST_CACHE:-$here/../.cache}
mkdir -p "$cache"; cache=$(cd "$cache" && pwd)
if ! cmp -s "$here/requirements.txt" "$cache/venv/.installed"; then
  python3 -m venv "$cache/venv" >&2 || { echo "venv.sh: apt-get install python3-venv" >&2; exit 1; }
  "$cache/venv/bin/pip" install -q -r "$here/requirements.txt" >&2
  cp "$here/requirements.txt" "$cache/venv/.installed"
fi
echo "$cache/venv/bin/python"
