#!/usr/bin/env python3
"""What a key costs a pipeline: prints, per model, the rate of one plan with and without it, over loopback.

    cargo build --release && python3 scripts/keys.py

Two edges run, one that asks for a key and one that does not. A plan is made on the latter and replayed over both in turns, so that
what moves the host moves both alike. Takes about a minute a model.
"""

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

COPROF = Path(__file__).resolve().parent.parent / "target/release/coprof"
MODELS = ["alexnet", "googlenet", "msdnet", "resnet56", "vgg16"]
ROUNDS = 7


def serve(folder, *flags):
    """An edge, and where it listens."""
    command = [COPROF, "serve", "--listen", "127.0.0.1:0", "--json", *flags]
    edge = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)
    decoder, text = json.JSONDecoder(), ""
    for line in edge.stdout:
        text += line
        try:
            return edge, decoder.decode(text)["listening"]
        except json.JSONDecodeError:
            continue
    sys.exit("the edge ended")


def coprof(folder, *flags):
    """What a command prints."""
    done = subprocess.run([COPROF, *flags, "--json", "-q"], cwd=folder, check=True, stdout=subprocess.PIPE)
    return json.loads(done.stdout)


def rates(folder, model, edges):
    """Measured rates per edge, in turns."""
    coprof(folder, "optimize", "--model", model, "--no-ranges", *edges["without"])
    plan = max(Path(folder).glob("reports/plan-*.json"))
    found = {name: [] for name in edges}
    for _ in range(ROUNDS):
        for name, flags in edges.items():
            document = coprof(folder, "replay", "--model", model, "--plan", str(plan), *flags)
            found[name].append(document["measured"]["rate_per_s"])
    return {name: statistics.median(each) for name, each in found.items()}


def main():
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([COPROF, "key", "--output", "keys", "-q"], cwd=folder, check=True)
        started = {"without": serve(folder), "with": serve(folder, "--key", "keys")}
        edges = {name: ["--peer", address] for name, (_, address) in started.items()}
        edges["with"] += ["--key", "keys"]
        try:
            print("| model | tasks a second without a key | with one | |")
            print("| --- | ---: | ---: | ---: |")
            for model in sys.argv[1:] or MODELS:
                rate = rates(folder, model, edges)
                change = 100 * (rate["with"] / rate["without"] - 1)
                print(f"| {model} | {rate['without']:.0f} | {rate['with']:.0f} | {change:+.1f} % |", flush=True)
        finally:
            for edge, _ in started.values():
                edge.terminate()


if __name__ == "__main__":
    main()
