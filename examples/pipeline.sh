#!/usr/bin/env bash
# A step of a pipeline: compresses a model, acts on the exit code, and verifies the file before it is deployed.
#
#   bash examples/pipeline.sh models/digits_cnn.onnx models/digits_calib.npz models/digits_test.npz out
#
# MODEL, calibration samples, labelled samples, and a folder for what comes out.
set -uo pipefail
model=$1 calib=$2 labels=$3 out=$4
mkdir -p "$out"

onnx-merge "$model" "$out/smaller.onnx" --keep 0.7 --calib "$calib" --report "$out/report.json" --force --quiet
code=$?
case $code in
    0) ;;
    3) echo "too much was lost: see $out/smaller.rejected.onnx and $out/report.json; a larger --keep loses less" >&2; exit 3 ;;
    4) echo "nothing can be removed; the original is deployed" >&2; cp "$model" "$out/smaller.onnx"; exit 0 ;;
    2) echo "an option or a file is wrong, see above" >&2; exit 2 ;;
    *) echo "onnx-merge failed with exit code $code" >&2; exit "$code" ;;
esac

# On samples that the run has not seen. Exit code 3: the file does not keep what it says.
onnx-merge verify "$out/smaller.onnx" --against "$model" --labels "$labels" --quiet || exit
echo "$out/smaller.onnx keeps what it says"
