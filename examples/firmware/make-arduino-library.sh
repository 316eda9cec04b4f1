#!/bin/sh
# Makes Harrier.zip for Sketch > Include Library > Add .ZIP Library: make-arduino-library.sh [FOLDER]
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=$(cd "${1:-.}" && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cp -R "$here/arduino" "$folder/Harrier"
mkdir -p "$folder/Harrier/src"
cp "$here/harrier.h" "$here/harrier.c" "$here/harrier_layout.h" "$folder/Harrier/src/"
rm -f "$out/Harrier.zip"
(cd "$folder" && python3 -m zipfile -c "$out/Harrier.zip" Harrier/)
echo "$out/Harrier.zip"
