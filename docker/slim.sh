#!/bin/sh
# slim.sh VENV: take out of a virtual environment what no robot runs: pip, tests, headers, symbols, numpy's Fortran
# compiler, OpenCV's face cascades, and of LiteRT all but the interpreter: its GPU, compilers for phones, what they need.
# Then compile what is used, which a read-only container could not do later.
set -eu
venv=$1
"$venv/bin/python" -m pip uninstall -q -y pip
packages=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
cd "$packages"
rm -rf ai_edge_litert/libLiteRt*.so ai_edge_litert/vendors ai_edge_litert/tools ai_edge_litert/aot \
    ai_edge_litert/*_pb2.py ai_edge_litert/schema_py_generated.py ml_dtypes cv2/data numpy/f2py numpy/*/tests numpy/tests numpy/_core/_simd.*.so numpy/_core/_*_tests.*.so
find . -type f \( -name '*.pyi' -o -name '*.pyx' -o -name '*.pxd' -o -name '*.a' -o -name '*.h' -o -name '*.c' \) -delete
# a library that strip does not understand stays as it is
find . -type f -name '*.so*' -exec sh -c '
    for library do
        if strip --strip-unneeded -o "$library.small" "$library" 2>/dev/null; then cat "$library.small" >"$library"; fi
        rm -f "$library.small"
    done' sh {} +
"$venv/bin/python" -m compileall -q --invalidation-mode unchecked-hash edge numpy msgspec cv2 ai_edge_litert
