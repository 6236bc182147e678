#!/usr/bin/env python3
"""What the ladder of encodings buys on each bundled model, as a page in Markdown.

    cargo build --release && python3 scripts/ladder.py > docs/ladder.md

Bytes and accuracies are those of the committed records. Times are measured on this host, the device and the link
emulated by `coprof optimize`; other link rates are then searched in the scenario that it saved. Takes 18 minutes, most of
them for vgg16 and msdnet, whose side exits make the search longer.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

COPROF = pathlib.Path(__file__).resolve().parent.parent / "target" / "release" / "coprof"
MODELS = ("alexnet", "googlenet", "msdnet", "resnet56", "vgg16")
SLOWDOWN = 8
MEASURED_AT = ("--link-rate", "20mbit", "--link-delay", "5ms")
RATES_MBIT = (1, 5, 20, 100)
LOSSES = (0.5, 1.0)
UNENCODED = {"f32", "pixels"}
FAMILIES = (
    ("f32", lambda name: name == "f32"),
    ("8-bit pixels", lambda name: name == "pixels"),
    ("PNG", lambda name: name == "pixels+png"),
    ("16-bit floats", lambda name: name.startswith(("f16", "bf16"))),
    ("q, min to max", lambda name: name.startswith("q") and not set("ck") & set(element(name))),
    ("q, by channel", lambda name: name.startswith("q") and element(name).endswith("c")),
    ("q, calibrated", lambda name: name.startswith("q") and element(name).endswith("k") and "c" not in element(name)),
    ("q, both", lambda name: name.startswith("q") and element(name).endswith("ck")),
    ("JALAD", lambda name: name.startswith("jalad")),
    ("pruned channels", lambda name: name.startswith("prune")),
    ("JPEG", lambda name: name.startswith("jpeg")),
)


def element(name):
    return name.split("+")[0]


def coprof(folder, *arguments):
    command = [COPROF, *arguments, "--json", "--quiet"]
    return json.loads(subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE).stdout)


def smallest(rows, floor):
    fit = [row for row in rows if row["final_accuracy"] >= floor - 1e-9]
    return min(fit, key=lambda row: row["bytes_mean"], default=None)


def best_cuts(by_cut, floor, planned):
    """Those of the best plans, and each cut behind which less need cross than at every cut before it."""
    best, least = [], float("inf")
    for cut, rows in by_cut.items():
        row = smallest(rows, floor)
        is_least = row is not None and row["bytes_mean"] < least
        if is_least:
            least = row["bytes_mean"]
        if is_least or cut in planned:
            best.append(cut)
    return best


def cell(row, winner):
    if row is None:
        return "–"
    text = f"{row['bytes_mean']:.0f} ({row['encoding']})"
    return f"**{text}**" if row is winner else text


def bytes_table(by_cut, cuts, floor):
    lines = ["| | " + " | ".join(cuts) + " |", "| --- |" + " ---: |" * len(cuts)]
    winners = [smallest(by_cut[cut], floor) for cut in cuts]
    for title, belongs in FAMILIES:
        own = ([row for row in by_cut[cut] if belongs(row["encoding"])] for cut in cuts)
        cells = [cell(smallest(rows, floor), winner) for rows, winner in zip(own, winners)]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return lines


def searched(folder, scenario, rate_mbit, allowed):
    scenario = dict(scenario, links=[dict(scenario["links"][0], bits_per_second=rate_mbit * 1e6)])
    scenario["encodings"] = [row for row in scenario["encodings"] if allowed(row)]
    path = pathlib.Path(folder) / "searched.json"
    path.write_text(json.dumps(scenario))
    best = coprof(folder, "optimize", "--scenario", str(path))["best"]
    return best["prediction"]["rate_per_s"], best["plan"]


def described(plan):
    link = plan["links"][0]
    on = [exit["name"] for exit in plan["exits"][:-1] if exit["threshold"] != "never"]
    exits = f", exits {' '.join(on)}" if on else ""
    if link is None:
        return f"nothing crosses{exits}"
    return f"{link['encoding']} after {'+'.join(link['resume']) or 'input'}{exits}"


def rates_table(folder, scenario):
    """The table, and the names of the cuts that the ladder's plans cross."""

    def is_picture(row):
        return not row["cut"] and row["encoding"].startswith(("pixels", "jpeg"))

    choices = (
        lambda row: row["encoding"] in UNENCODED,
        lambda row: row["encoding"] in UNENCODED or is_picture(row),
        lambda row: True,
    )
    lines = [
        "| link | no encoding | and the input as a picture | the ladder | gain | the ladder's plan |",
        "| --- | ---: | ---: | ---: | ---: | --- |",
    ]
    planned = set()
    for rate in RATES_MBIT:
        found = [searched(folder, scenario, rate, allowed) for allowed in choices]
        rates = " | ".join(f"{tasks:.0f}" for tasks, _ in found)
        gain = found[2][0] / found[0][0]
        lines.append(f"| {rate} Mbit/s | {rates} | {gain:.2f} × | {described(found[2][1])} |")
        planned |= {"+".join(link["resume"]) or "input" for link in found[2][1]["links"] if link}
    return lines, planned


def page(model):
    with tempfile.TemporaryDirectory() as folder:
        document = coprof(folder, "encodings", "--model", model)
        optimized = coprof(folder, "optimize", "--model", model, "--slowdown", str(SLOWDOWN), *MEASURED_AT)
        scenario = json.loads((pathlib.Path(folder) / optimized["scenario"]).read_text())
        rates, planned = rates_table(folder, scenario)
    by_cut = {}
    for row in document["encodings"]:
        by_cut.setdefault(row["cut"], []).append(row)
    uncut = document["uncut_final_accuracy"]
    cuts = best_cuts(by_cut, uncut - LOSSES[0] / 100, planned)
    lines = [f"## {model}", "", f"Uncut it is right on {100 * uncut:.2f} % of {document['samples']} validation images.", ""]
    for points in LOSSES:
        lines += [f"### Mean bytes at a loss of at most {points:g} points", ""]
        lines += [*bytes_table(by_cut, cuts, uncut - points / 100), ""]
    cpu = optimized["host"].get("cpu", "an unnamed processor")
    return lines + [
        "### Best rate in tasks per second",
        "",
        f"Predicted, emulated: a device {SLOWDOWN} times slower than one core of {cpu}, a link shaped in user space with 5 ms one",
        "way. Accuracy at most one point under the uncut model's; early exits may be used in all columns.",
        "",
        *rates,
        "",
    ]


def main():
    if not COPROF.exists():
        sys.exit(f"expected the program at {os.path.relpath(COPROF)}; run `cargo build --release` first")
    lines = [
        "# What the ladder of encodings buys",
        "",
        "Made by `python3 scripts/ladder.py > docs/ladder.md`. Sizes and accuracies are counted on the images of the committed records",
        "(`coprof encodings` shows all of them); [formats.md](formats.md#encodings) explains the names. The columns are cuts: those of",
        "the best plans below, and each behind which less crosses than at any cut before. In a cell stands the smallest encoding of its",
        "kind with any coder, in bold that of the cut. At the input, JPEG and PNG are those of the picture, elsewhere of its features.",
        "",
    ]
    for model in MODELS:
        lines += page(model)
    print("\n".join(lines).rstrip())


if __name__ == "__main__":
    main()
