#!/bin/sh
# Measures the package on a machine with a GPU and without internet. Needs python3 (x86-64 Linux) with torch,
# torchvision, numpy, pandas, pyarrow, scipy, scikit-learn, statsmodels and pytest; the rest lies beside this file.
#
#   run.sh                      the GPU tests, the benchmarks and a sweep; what they write goes to $OUT. What tells most
#                               runs first and in short, into $OUT/quick, so that it is there if the machine is taken away
#   run.sh gpu|tests|sweep      one of them; tests: all fast tests, on as many processes as there are cores
#   run.sh benchmarks [SUITE..] the suites, by default all that a GPU can run; QUICK=1 shortens them
#   run.sh exec COMMAND..       any command with the package on its path, such as: run.sh exec tskd-tune check digits
#
# BUDGET: the seconds that run.sh may take, such as 580; no step then takes more than a share of what is left, and steps
# that are cut off or left out are named. A suite that is cut off keeps the figures that it has. Without BUDGET there is no
# limit. $OUT/summary.txt has a line for each step that ended. What a step leaves running is ended, so no step has less of
# the GPU than it should.
# OUT: where results go (./out). TSKD_TUNE_UNPACKED: where the bundle is unpacked (beside this file). DEVICE: cpu or cuda.
set -u
begun=$(date +%s)
here=$(cd "$(dirname "$0")" && pwd)
unpacked=${TSKD_TUNE_UNPACKED:-$here/unpacked}
python=${PYTHON:-python3}
command -v "$python" > /dev/null || { echo "run.sh: there is no Python at $python; set PYTHON" >&2; exit 2; }
if [ -e "$here/python.txt" ]; then
  made_for=$(cat "$here/python.txt") found=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
  if [ "$found" != "$made_for" ]; then
    echo "run.sh: the bundle is for Python $made_for, but $python is Python $found; set PYTHON to a python$made_for, or" \
      "make the bundle again with: python -m benchmarks bundle DIR --python $found" >&2
    exit 2
  fi
fi
mkdir -p "${OUT:=out}" "$unpacked" && OUT=$(cd "$OUT" && pwd) && unpacked=$(cd "$unpacked" && pwd) || exit 2

if [ ! -e "$unpacked/whole" ]; then
  "$python" - "$here" "$unpacked" <<'CODE' || { echo "run.sh: could not unpack $here into $unpacked" >&2; exit 2; }
import pathlib, sys, tarfile
here, unpacked = map(pathlib.Path, sys.argv[1:])
for name in ("site", "project"):
    with tarfile.open(here / f"{name}.tar.xz") as archive:
        # Python before 3.11.4 knows no filters.
        archive.extractall(unpacked / name, **({"filter": "tar"} if hasattr(tarfile, "tar_filter") else {}))
binaries = unpacked / "bin"
binaries.mkdir(exist_ok=True)
for name, module in (("tskd-tune", "tskd_tune"), ("wandb", "wandb")):
    file = binaries / name
    file.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m {module} "$@"\n')
    file.chmod(0o755)
(unpacked / "whole").touch()
CODE
fi

PYTHONPATH="$unpacked/project:$unpacked/site${PYTHONPATH:+:$PYTHONPATH}"
PATH="$unpacked/bin:$PATH"
export PYTHONPATH PATH OUT
export WANDB_MODE="${WANDB_MODE:-offline}" PYTHONDONTWRITEBYTECODE=1 TSKD_TUNE_CACHE="${TSKD_TUNE_CACHE:-$unpacked/cache}"
if [ "${1:-all}" = exec ]; then shift; exec "$@"; fi

cd "$unpacked/project" || exit 2
: "${DEVICE:=$("$python" -c 'import torch; print("cuda" if torch.cuda.is_available() else "cpu")')}"
case $DEVICE in
  cuda) ;;
  cpu) "$python" - >&2 <<'CODE'
import os, torch
shown = os.environ.get("CUDA_VISIBLE_DEVICES")
why = f"CUDA_VISIBLE_DEVICES is {shown!r}" if shown is not None else (
    f"it is built for CUDA {torch.version.cuda}; see nvidia-smi" if torch.version.cuda else "it is built without CUDA")
print("run.sh: all is measured on the CPU, without the GPU tests: DEVICE=cpu was given" if torch.cuda.is_available() else
      f"run.sh: torch {torch.__version__} shows no GPU ({why}), so all is measured on the CPU, without the GPU tests")
CODE
    ;;
  *) echo "run.sh: there is no Python with torch at $python, or DEVICE is neither cpu nor cuda; set PYTHON or DEVICE" >&2
    exit 2 ;;
esac
failed= left_out=

left() { echo $((${BUDGET:-0} - $(date +%s) + begun)); }

bounded() { # bounded COMMAND..: ends the command when its share of the budget that is left is spent
  most=inf
  [ -z "${BUDGET:-}" ] || most=$(($(left) * ${share:-50} / 100))
  "$python" -m benchmarks.within "$most" "$@"
}

step() { # step NAME COMMAND..: runs on after a failure, so that one step costs no other its results
  name=$1; shift
  if [ -n "${BUDGET:-}" ] && [ "$(left)" -lt 30 ]; then left_out="$left_out $name"; return; fi
  started=$(date +%s)
  bounded "$@" > "$OUT/$name.log" 2>&1
  code=$? took=$(($(date +%s) - started)) ended=ok
  case ${BUDGET:+in}$code in
    0|in0) ;;
    in124) ended="cut off, after its share of the budget that was left"; failed="$failed $name" ;;
    *) ended="failed with $code"; failed="$failed $name" ;;
  esac
  echo "$name: $ended, $took s" >> "$OUT/summary.txt"
  echo "== $name: $ended, $took s, $OUT/$name.log"
  tail -n 25 "$OUT/$name.log"
}
gpu() {
  [ "$DEVICE" = cuda ] || return
  ! "$python" -c 'import xdist' 2> /dev/null || at_once="-n 4"
  step gpu "$python" -m pytest -v --tb=short -p no:cacheprovider -m "not slow" ${at_once:-} $GPU_TESTS -k "$GPU_NAMES"
}
tests() { step tests "$python" -m pytest -q -p no:cacheprovider -m "not slow" -n auto; }
benchmarks() {
  for suite in "$@"; do
    step "${QUICK:+quick/}$suite" "$python" -m benchmarks "$suite" --device "$DEVICE" \
      --json "$OUT/${QUICK:+quick/}$suite.json" ${QUICK:+--quick}
  done
}
in_short() { QUICK=1; mkdir -p "$OUT/quick"; benchmarks "$@"; QUICK=; }
sweep() { step sweep sh -c "cd '$OUT' && exec tskd-tune sweep digits --name digits-$(date +%s) --no-wandb"; }

GPU_TESTS="tests/training/test_gpu.py tests/training/test_parallel_gpu.py tests/contracts tests/tasks/test_images.py
  tests/sweeps/trials/test_bundles.py"
GPU_NAMES="test_gpu or test_parallel_gpu or cuda or real_gpu"
FIRST="step review together" # those with goals on a GPU, the most telling first; review also gives the rows of cycle
SUITES="$FIRST profile tables loader"
command=${1:-all}
[ $# -eq 0 ] || shift
case $command in
  gpu) gpu ;;
  tests) tests ;;
  sweep) sweep ;;
  benchmarks) [ $# -gt 0 ] || set -- $SUITES cycle layouts
    [ -z "${QUICK:-}" ] || mkdir -p "$OUT/quick"
    benchmarks "$@" ;;
  all) share=25; gpu; share=50; in_short $FIRST; share=75; in_short tables; benchmarks together; share=50
    sweep; in_short profile loader; benchmarks step review tables profile loader cycle layouts ;;
  *) echo "run.sh: no command $command; see the top of $0" >&2; exit 2 ;;
esac
[ -z "$left_out" ] || echo "left out, because BUDGET was spent:$left_out" | tee -a "$OUT/summary.txt" >&2
[ -z "$failed" ] || { echo "failed:$failed" >&2; exit 1; }
