"""Times the whole model in PyTorch eager beside coprof, in turns, one thread on one core.

    python models/train/eager.py alexnet --checkpoints DIR [--coprof target/release/coprof] [--rounds 5]

Prints each round's medians and the median ratio coprof / eager; 1.0 or less is the aim.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import tempfile
import time

import torch

from networks import NETWORKS
from train import CACHE, trained


def eager_median_us(model, pixels, seconds):
    with torch.inference_mode():
        for _ in range(10):
            model.trunk(pixels)
        times, end = [], time.perf_counter() + seconds
        while time.perf_counter() < end:
            start = time.perf_counter()
            model.trunk(pixels)
            times.append(time.perf_counter() - start)
    return 1e6 * statistics.median(times)


def coprof_median_us(binary, network, core):
    with tempfile.TemporaryDirectory() as folder:
        command = [str(binary), "layers", "--model", network, "--core", str(core), "--json", "-q"]
        result = subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return json.loads(result.stdout)["whole_model_us"]["median"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", choices=NETWORKS)
    parser.add_argument("--checkpoints", type=pathlib.Path, default=CACHE)
    parser.add_argument("--coprof", type=pathlib.Path, default=pathlib.Path("target/release/coprof"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--core", type=int, default=0)
    args = parser.parse_args()

    os.sched_setaffinity(0, {args.core})
    torch.set_num_threads(1)
    model = trained(args.network, args.checkpoints)
    pixels = torch.randint(0, 256, (1, 3, 32, 32)).float()
    ratios = []
    for _ in range(args.rounds):
        eager = eager_median_us(model, pixels, 1.0)
        ours = coprof_median_us(args.coprof.resolve(), args.network, args.core)
        ratios.append(ours / eager)
        print(f"eager {eager:.0f} us   coprof {ours:.0f} us   ratio {ratios[-1]:.3f}", flush=True)
    print(f"median ratio {statistics.median(ratios):.3f}")


if __name__ == "__main__":
    main()
