#!/bin/sh
# slim.sh VENV: take out of a virtual environment what no robot runs (pip, tests, headers, symbols, LiteRT's WebGPU and
# compilers for phones, OpenCV's face cascades), and compile the rest, which a read-only image could not do later.
set -eu
venv=$1
"$venv/bin/python" -m pip uninstall -q -y pip
packages=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
litert=$packages/ai_edge_litert
rm -rf "$litert/libLiteRtWebGpuAccelerator.so" "$litert/vendors" "$litert/tools" "$litert/aot" "$packages/cv2/data" \
    "$packages/numpy/f2py" "$packages"/numpy/*/tests "$packages/numpy/tests"
find "$packages" -type f \( -name '*.pyi' -o -name '*.pyx' -o -name '*.pxd' -o -name '*.a' -o -name '*.h' -o -name '*.c' \) \
    -delete
# some libraries were stripped already; patched ones that strip does not understand stay as they are
find "$packages" -type f -name '*.so*' -exec sh -c '
    for library do strip --strip-unneeded -o "$library.small" "$library" 2>/dev/null && cat "$library.small" >"$library"
    rm -f "$library.small"; done' sh {} +
"$venv/bin/python" -m compileall -q -j 0 --invalidation-mode unchecked-hash "$packages"
