#!/usr/bin/env bash
# Run the tests of the core under AddressSanitizer and UndefinedBehaviorSanitizer, in a copy of the tree; gcc on Linux.
#   tests/sanitize.sh [folder to build in] [pytest arguments]
# Leaks are not looked for: the interpreter never gives back what it holds at its end.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:-$(mktemp -d)}
shift || true
python=${PYTHON:-python}

mkdir -p "$folder"
cp -r toxmid tests data setup.py pyproject.toml README.md LICENSE "$folder"/
find "$folder/toxmid" -name '*.so' -delete
cd "$folder"

flags="-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer -g -O1"
CFLAGS="$flags" LDFLAGS="-fsanitize=address,undefined" "$python" setup.py -q build_ext --inplace --force

libraries="$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libubsan.so)"
[ $# -gt 0 ] || set -- tests/test_book.py tests/test_parity.py tests/test_volume_clock.py tests/test_classify.py \
    tests/test_machine.py tests/test_engine.py tests/fuzz/test_fuzz.py \
    --deselect tests/test_engine.py::test_snapshot_holds_nothing_but_the_state  # starts an interpreter without the sanitizers
# The interpreter keeps freed memory of its own apart from malloc's; malloc lets the sanitizer see all of it.
LD_PRELOAD="$libraries" ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 UBSAN_OPTIONS=print_stacktrace=1 \
    PYTHONMALLOC=malloc PYTHONPATH="$folder" "$python" -m pytest -q -x -p no:cacheprovider -o addopts="" "$@"
