"""Every bad value of every argument of every public name: prints what was not refused as it should be.

python tests/campaign/bad_input.py [NAME ...]     # only names that hold one of these
"""

import os
import sys
import tempfile
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from kit.pipelines import SMALL, Rig, tiny_wan
from kit.typed import G, Good, refusal, table


def main(wanted: list[str]) -> int:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    folder = Path(tempfile.mkdtemp(prefix="stg-lab-typed-"))
    os.chdir(folder)
    rig, calls, faults = Rig(tiny_wan(), SMALL), 0, 0
    rig.sample(G, record=folder / "run.zarr")
    good = Good(rig, folder / "run.zarr", folder)
    for name, (function, arguments, bad) in table(good).items():
        if wanted and not any(word in name for word in wanted):
            continue
        for argument, values in bad.items():
            for value in values:
                calls += 1
                if fault := refusal(good, function, arguments, argument, value):
                    faults += 1
                    print(f"{name}({argument}=...): {fault}", flush=True)
    print(f"{calls} bad calls, {faults} faults")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
