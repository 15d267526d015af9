"""Three threads on one pipeline, again and again: each run is right, bit for bit, or refused in one line.

python tests/campaign/threads.py [ROUNDS]
"""

import random
import sys
import threading
import warnings
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from kit.interrupts import GUIDANCE, Bench

import stg_lab as lab


def main(rounds: int) -> int:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    bench, outcomes = Bench(), Counter()
    call = {**bench.call, "guidance": GUIDANCE, "record": False}
    expected = [lab.sample(bench.pipe, seed=seed, **call).output.frames for seed in range(3)]
    draw = random.Random(0)

    def run(seed: int, delay: float) -> None:
        threading.Event().wait(delay)
        try:
            frames = lab.sample(bench.pipe, seed=seed, **call).output.frames
            outcomes["right" if torch.equal(frames, expected[seed]) else "WRONG BITS"] += 1
        except lab.LabError as error:
            outcomes["refused" if "\n" not in str(error) else "REFUSED IN SEVERAL LINES"] += 1
        except BaseException as error:
            outcomes[f"RAW {type(error).__name__}: {error}"] += 1

    for _ in range(rounds):
        threads = [threading.Thread(target=run, args=(seed, draw.random() * 0.02)) for seed in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    faults = [*bench.faults(), *(kind for kind in outcomes if kind not in ("right", "refused"))]
    print(f"{3 * rounds} runs: {dict(outcomes)}; faults: {faults or 'none'}")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 100))
