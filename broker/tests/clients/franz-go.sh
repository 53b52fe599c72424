#!/bin/bash
# franz-go (Go). Of the commands of live.py it knows `group`; `fetch` only builds it.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${MILLSTREAM_TEST_CACHE:-$here/../.cache}
mkdir -p "$cache"; program=$(cd "$cache" && pwd)/franz-go
[ -n "$(find "$program" -newer "$here/franz-go/main.go" -newer "$here/franz-go/go.sum" 2>/dev/null)" ] ||
  (cd "$here/franz-go" && go build -o "$program" .)
[ "$1" = fetch ] || exec "$program" "$@"
