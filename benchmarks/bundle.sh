#!/bin/sh
# Measures the package on a machine with a GPU and without internet. Needs python3 (x86-64 Linux) with torch,
# torchvision, numpy, pandas, pyarrow, scipy, scikit-learn, statsmodels and pytest; the rest lies beside this file.
#
#   run.sh                      the GPU tests, the benchmarks and a sweep; what they write goes to $OUT
#   run.sh gpu|tests|sweep      one of them; tests: all fast tests, on as many processes as there are cores
#   run.sh benchmarks [SUITE..] the suites, by default all that a GPU can run; QUICK=1 shortens them
#   run.sh exec COMMAND..       any command with the package on its path, such as: run.sh exec tskd-tune check digits
#
# OUT: where results go (./out). TSKD_TUNE_UNPACKED: where the bundle is unpacked (beside this file). DEVICE: cpu or cuda.
set -u
here=$(cd "$(dirname "$0")" && pwd)
unpacked=${TSKD_TUNE_UNPACKED:-$here/unpacked}
python=${PYTHON:-python3}
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
failed=

step() { # step NAME COMMAND..: runs on after a failure, so that one step costs no other its results
  name=$1; shift
  started=$(date +%s)
  "$@" > "$OUT/$name.log" 2>&1 || failed="$failed $name"
  echo "== $name: $(($(date +%s) - started)) s, $OUT/$name.log"
  tail -n 25 "$OUT/$name.log"
}
gpu() { step gpu "$python" -m pytest -q -p no:cacheprovider -m "not slow" tests/training tests/tasks/test_images.py -k "gpu or cuda or graph or test_gpu"; }
tests() { step tests "$python" -m pytest -q -p no:cacheprovider -m "not slow" -n auto; }
benchmarks() {
  for suite in "$@"; do
    step "$suite" "$python" -m benchmarks "$suite" --device "$DEVICE" --json "$OUT/$suite.json" ${QUICK:+--quick}
  done
}
sweep() { (cd "$OUT" && step sweep tskd-tune sweep digits --name "digits-$(date +%s)" --no-wandb && [ -z "$failed" ]) || failed="$failed sweep"; }

command=${1:-all}
[ $# -eq 0 ] || shift
case $command in
  gpu) gpu ;;
  tests) tests ;;
  sweep) sweep ;;
  benchmarks) [ $# -gt 0 ] || set -- loader step review cycle together tables; benchmarks "$@" ;;
  all) gpu; benchmarks loader step review cycle together tables; sweep ;;
  *) echo "run.sh: no command $command; see the top of $0" >&2; exit 2 ;;
esac
[ -z "$failed" ] || { echo "failed:$failed" >&2; exit 1; }
