#!/bin/bash
# Makes a Python environment once, in broker/tests/.cache; prints the path of its python.
#
#   venv.sh [REQUIREMENTS NAME]      that of requirements.txt, in .cache/venv, without arguments
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
requirements=${1:-$here/requirements.txt} name=${2:-venv}
cache=${MILLSTREAM_TEST_CACHE:-$here/../.cache}
mkdir -p "$cache"; cache=$(cd "$cache" && pwd)
if ! cmp -s "$requirements" "$cache/$name/.installed"; then
  python3 -m venv "$cache/$name" >&2 || { echo "venv.sh: apt-get install python3-venv" >&2; exit 1; }
  "$cache/$name/bin/pip" install -q -r "$requirements" >&2
  cp "$requirements" "$cache/$name/.installed"
fi
echo "$cache/$name/bin/python"
