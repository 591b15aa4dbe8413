#!/bin/sh
# Makes .venv from uv.lock with the extras that its arguments name, without what no container loads.
set -eu

# By hashes from the index that is set: the addresses in uv.lock are those of PyPI.
uv venv --quiet --python /usr/local/bin/python .venv
uv export --quiet --frozen --no-emit-project "$@" --output-file /tmp/requirements.txt
uv pip sync --quiet --python .venv --require-hashes /tmp/requirements.txt

cd .venv/lib/python3*/site-packages
# The symbols of debuggers. Packages with libraries of their own were altered after they were linked.
for module in $(find . -name '*.cpython-*.so' | sed 's|^\./||'); do
    [ -e "${module%%/*}.libs" ] || strip --strip-debug "$module"
done
# ONNX Runtime for programs in C, which is in Python's own module too, and its tools to make models.
rm -rf onnxruntime/capi/libonnxruntime.so.* onnxruntime/quantization onnxruntime/tools \
    onnxruntime/transformers
# Of the services of AWS, S3 and the ways to log in are used.
find botocore/data -mindepth 1 -maxdepth 1 -type d ! -name s3 ! -name 'sso*' ! -name sts \
    -exec rm -rf {} +
