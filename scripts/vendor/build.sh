#!/usr/bin/env bash
# Bundles Preact, htm and uPlot for the page, then its editor for notebooks, and puts axe where the browser tests find it.
set -euo pipefail
cd "$(dirname "$0")"

vendor=../../src/entrocraft/app/static/vendor
tests=../../tests/browser

npm ci
npx esbuild entry.js --bundle --format=esm --minify --target=es2022 --legal-comments=none --outfile="$vendor/vendor.js"
for package in preact htm uplot; do
    echo "== $package $(node -p "require('./node_modules/$package/package.json').version") =="
    echo
    cat "node_modules/$package/LICENSE"
    echo
done > "$vendor/LICENSES.txt"
bash widget.sh
cp node_modules/axe-core/axe.min.js "$tests/axe.min.js"
cp node_modules/axe-core/LICENSE "$tests/axe.LICENSE.txt"
