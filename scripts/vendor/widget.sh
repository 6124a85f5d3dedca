#!/usr/bin/env bash
# Bundles the page's editor for notebooks; to be run after each change of a file that widget.sha256 names.
set -euo pipefail
cd "$(dirname "$0")"

vendor=../../src/entrocraft/app/static/vendor
made=$(mktemp)
trap 'rm -f "$made"' EXIT

npx esbuild widget.js --bundle --format=esm --minify --target=es2022 --legal-comments=none --loader:.css=text \
    --metafile="$made" --outfile="$vendor/widget.js"
node -p "Object.keys(JSON.parse(fs.readFileSync('$made')).inputs).sort().join('\n')" | xargs sha256sum > widget.sha256
