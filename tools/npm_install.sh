#!/bin/sh
# Installs the Node packages of DIR/package.json into .cache/npm/NAME, once for each content of that file; prints the folder.
#
#   tools/npm_install.sh DIR
set -eu
cd "$(dirname "$0")/.."
source=$1
name=$(basename "$source")
target=.cache/npm/$name
if ! command -v npm >/dev/null 2>&1; then
    echo "npm is missing; install it with: apt-get install --no-install-recommends nodejs npm" >&2
    exit 1
fi
mkdir -p "$target"
if command -v flock >/dev/null 2>&1; then # two runs of tests may want it at once: the second one waits
    exec 9>"$target.lock"
    flock 9
fi
if ! cmp -s "$source/package.json" "$target/installed.json" || [ ! -d "$target/node_modules" ]; then
    rm -f "$target/installed.json"
    cp "$source/package.json" "$target/package.json"
    how="install --no-package-lock"
    if [ -f "$source/package-lock.json" ]; then # exactly these versions, of what they need themselves too
        cp "$source/package-lock.json" "$target/package-lock.json"
        how=ci
    fi
    # shellcheck disable=SC2086
    (cd "$target" && npm $how --no-audit --no-fund --ignore-scripts --loglevel=error >npm.log 2>&1) || {
        tail -5 "$target/npm.log" >&2
        exit 1
    }
    cp "$source/package.json" "$target/installed.json"
fi
for file in "$source"/*.js; do # what is the same is left alone: somebody may be starting it
    [ ! -e "$file" ] || cmp -s "$file" "$target/${file##*/}" || cp "$file" "$target/"
done
printf '%s\n' "$target"
