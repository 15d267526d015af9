"""An interrupt at each line of the lab that a run comes to, the first and the last time: prints what each left behind.

python tests/campaign/interrupts.py [EVERY]     # every EVERY-th place only
"""

import sys
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from kit.interrupts import Bench, places


def main(every: int) -> int:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    bench, tried, faults = Bench(), 0, []
    for name, work in bench.works.items():
        for place in places(work)[::every]:
            found = bench.interrupted(name, place)
            tried += 1
            for fault in found:
                print(fault, flush=True)
            if found:  # what is left would be found again and again
                faults += found
                bench = Bench()
    print(f"{tried} interrupts, {len(faults)} faults")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1))
