"""Times whole models in coprof, PyTorch eager and ONNX Runtime, in turns, and prints a page in Markdown.

    python models/check/speed.py > docs/speed.md               # the bundled models and torchvision's
    python models/check/speed.py --models resnet18 alexnet_32  # some of them

Build coprof first: `cargo build --release`. Needs torch, torchvision, onnx and onnxruntime, and a machine that does nothing
else: about 10 minutes for all models.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time

import onnx
import onnxruntime
import torch
import torchvision_models

ROOT = pathlib.Path(__file__).parents[2]
COPROF = ROOT / "target/release/coprof"
sys.path.append(str(ROOT / "models/train"))

from networks import NETWORKS  # noqa: E402, beside the trainer

SIDE = 224
TORCHVISION = (
    "alexnet vgg16 resnet18 resnet50 googlenet squeezenet1_1 densenet121 mobilenet_v2 mobilenet_v3_small mobilenet_v3_large "
    "efficientnet_b0 shufflenet_v2_x1_0 regnet_y_400mf regnet_x_400mf convnext_tiny vit_b_16"
).split()
BUNDLED = {f"{name}_32": name for name in NETWORKS if (ROOT / f"models/{name}.onnx").exists()}
SECONDS, WARM_UP = 1.0, 3
HEAD = """\
Made by `python models/check/speed.py > docs/speed.md`: batch 1, one thread pinned on one core; {machine}; PyTorch {torch}, ONNX
Runtime {ort}. In each of {rounds} rounds the three are timed one after another on the same network, so that whatever slows the
machine down for a while slows down all that is compared. Times are medians over the rounds, ratios are medians of each
round's ratio; "layers / whole" is the sum of coprof's layers over its whole model. Torchvision's networks have random weights
and take 224×224; those that end in `_32` are the bundled ones, without the heads of their side exits.
"""
MOST_OVER_EAGER, MOST_OVER_ORT, MOST_SUM_OFF = 1.0, 1.25, 0.03


def torchvision_model(name, folder):
    """What runs in PyTorch, the side of its input, and the ONNX files for coprof and for ONNX Runtime."""
    model, path = torchvision_models.network(name), folder / f"{name}.onnx"
    torchvision_models.export(model, SIDE, "old:17", path)
    return model, SIDE, path, path


def bundled_model(name, folder):
    """The same; ONNX Runtime gets the trunk alone, which is what coprof's whole model is."""
    model = NETWORKS[name]().eval()
    path, trunk = ROOT / f"models/{name}.onnx", folder / f"{name}.trunk.onnx"
    onnx.utils.extract_model(str(path), str(trunk), ["pixels"], [model.exits[-1]])
    return model.trunk, 32, path, trunk


def pinned_median_us(run, core):
    every = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        with torch.inference_mode():
            return median_us(run)
    finally:
        os.sched_setaffinity(0, every)  # coprof pins itself, to a core of those that it is given.


def median_us(run):
    for _ in range(WARM_UP):
        run()
    times, end = [], time.perf_counter() + SECONDS
    while time.perf_counter() < end or len(times) < 10:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return 1e6 * statistics.median(times)


def ort_session(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def coprof_us(path, core, folder):
    """The median of the whole model, and the sum of its layers' medians."""
    command = [COPROF, "layers", "--model", path, "--core", str(core), "--json", "-q"]
    run = subprocess.run(command, cwd=folder, check=True, capture_output=True)
    document = json.loads(run.stdout)
    return document["whole_model_us"]["median"], document["layer_sum_us"]


def measure(name, rounds, core):
    """Per round: the times of eager, ONNX Runtime, coprof, and coprof's layers one by one."""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        made = bundled_model(BUNDLED[name], folder) if name in BUNDLED else torchvision_model(name, folder)
        model, side, path, ort_path = made
        pixels = torch.randint(0, 256, (1, 3, side, side)).float()
        session, feed = ort_session(ort_path), {"pixels": pixels.numpy()}
        contenders = [lambda: model(pixels), lambda: session.run(None, feed)]
        in_turn = lambda: [pinned_median_us(run, core) for run in contenders]  # noqa: E731
        return [(*in_turn(), *coprof_us(path, core, folder)) for _ in range(rounds)]


def row(name, rounds):
    eager, ort, whole, _ = (statistics.median(times) / 1e3 for times in zip(*rounds, strict=True))
    over_eager = statistics.median(whole / eager for eager, _, whole, _ in rounds)
    over_ort = statistics.median(whole / ort for _, ort, whole, _ in rounds)
    sum_over_whole = statistics.median(layers / whole for _, _, whole, layers in rounds)
    cells = [f"{value:.2f}" for value in (eager, ort, whole)]
    cells += [f"{value:.3f}" for value in (over_eager, over_ort, sum_over_whole)]
    print(f"| {name} | {' | '.join(cells)} |", flush=True)
    return over_eager, over_ort, sum_over_whole


def summary(rows):
    over_eager, over_ort, sums = zip(*rows.values(), strict=True)
    slower = [name for name, (ratio, _, _) in rows.items() if ratio > MOST_OVER_EAGER]
    over_ort, off = statistics.geometric_mean(over_ort), statistics.median(sums) - 1
    met = {True: "met", False: "not met"}
    print(f"| geometric mean | | | | {statistics.geometric_mean(over_eager):.3f} | {over_ort:.3f} | |")
    print()
    print(f"- At most {MOST_OVER_EAGER} × eager on every model: {met[not slower]}{': ' * bool(slower)}{', '.join(slower)}.")
    print(f"- At most {MOST_OVER_ORT} × ONNX Runtime in geometric mean: {met[over_ort <= MOST_OVER_ORT]}, {over_ort:.3f}.")
    print(f"- Sum of layers within {MOST_SUM_OFF:.0%} in the median: {met[abs(off) <= MOST_SUM_OFF]}, {off:+.1%}.")


def machine():
    """The processor's name, what PyTorch found it able to, and the number of cores."""
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown processor")
    return f"{name} ({torch.backends.cpu.get_cpu_capability()}), {os.cpu_count()} cores"


def head(rounds):
    versions = {"torch": torch.__version__.split("+")[0], "ort": onnxruntime.__version__}
    text = HEAD.format(machine=machine(), rounds=rounds, **versions)
    print("# Speed", textwrap.fill(text, 125, break_on_hyphens=False), sep="\n\n", end="\n\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    every = [*BUNDLED, *TORCHVISION]
    parser.add_argument("--models", nargs="+", default=every, choices=every)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--core", type=int, default=0)
    args = parser.parse_args()

    torch.set_num_threads(1)
    head(args.rounds)
    print("| model | eager, ms | ONNX Runtime, ms | coprof, ms | coprof / eager | coprof / ONNX Runtime | layers / whole |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    summary({name: row(name, measure(name, args.rounds, args.core)) for name in args.models})


if __name__ == "__main__":
    main()
