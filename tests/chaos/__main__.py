"""``PYTHONPATH=tests python -m chaos``: a calm sweep, then the same sweep through the storms of ten seeds."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from shutil import rmtree

from chaos.machines import Machines
from chaos.storm import Plan, Sweep, Told
from chaos.verdict import differences

SEEDS = range(1, 11)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[*SEEDS], help="the storms")
    seeds = parser.parse_args().seeds
    root, machines, failed = Path(tempfile.mkdtemp(prefix="chaos-")), Machines(), 0
    try:
        calm = Sweep(root, "calm", machines).calm()
        print(_line("calm", calm, []), flush=True)
        for seed in seeds:
            sweep = Sweep(root, f"seed-{seed}", machines)
            try:
                told = sweep.through(Plan.of(seed))
                wrong = differences(calm, told)
            except AssertionError:
                told, wrong = sweep.told, [f"it did not end; see {sweep.cache}"]
            failed += bool(wrong)
            print(_line(str(seed), told, wrong), flush=True)
            machines.mend()
    finally:
        machines.close()
    if not failed:
        rmtree(root)
    print(f"{len(seeds) - failed} of {len(seeds)} storms gave the calm run's rows and students")
    return int(failed > 0)


def _line(name: str, told: Told, wrong: list[str]) -> str:
    kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(told.struck.items()))
    verdict = "; ".join(wrong) if wrong else "same rows and students"
    return (
        f"| {name} | {told.struck.total()} | {told.commands} | {told.repeated()} | {kinds} | {verdict} |"
        f" ({told.seconds:.0f} s)"
    )


if __name__ == "__main__":
    raise SystemExit(main())
