#!/usr/bin/env python3
"""How far coprof's predictions are from what happens, as a page in Markdown.

    cargo build --release && sudo python3 scripts/truth.py > docs/truth.md

Device and edge run in two network namespaces of this host, the link between them is shaped by the kernel. In each
scenario `coprof optimize` plans, then `coprof replay` runs our plan and those of baselines that differ. Takes half an hour.
Needs root, `ip` and `tc` of iproute2 and the kernel's token bucket filter; without them the page says that they are missing.
"""

import argparse
import contextlib
import json
import os
import pathlib
import platform
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from typing import NamedTuple

COPROF = pathlib.Path(__file__).resolve().parent.parent / "target" / "release" / "coprof"
TITLE = "# How far predictions are from what happens"
# Name: rate and burst for `tc`.
LINKS = {
    "2mbit": ("2mbit", "16kb"),
    "10mbit": ("10mbit", "16kb"),
    "50mbit": ("50mbit", "16kb"),
    "200mbit": ("200mbit", "64kb"),
    "20mbit-deep": ("20mbit", "1mb"),
}
QUEUE = "400ms"
FULL_S, SINGLE_S = 2.5, 2.5
FEWEST_TASKS, MOST_TASKS = 40, 4000
LONGEST_COMMAND_S = 300
ALWAYS_RUN = ("device-only", "edge-only")
QUICK_SCENARIOS, QUICK_BASELINES = 3, 1
FAR_OFF = 0.10
FEWEST_REPLAYS = 60
FLOOR_SLACK = 1e-9
# First without the change of the hosts' speeds since their profiles, then as measured.
DRIFTS = (True, False)
WIDTH = 125
# What of reality the model of coprof is known to leave out: see docs/formats.md, "The trial".
NOT_MODELLED = (
    "What nodes on one host do to each other is one figure, whichever layers each of them runs, and so is what a pause costs a "
    "node.",
    "With tasks that leave at several exits, a node that has as much to do as another one on average now and then has more; the "
    "prediction is for a queue without end between them.",
    "The speeds of the host's cores move by a tenth and more within a tenth of a second. The whole model runs between passes, "
    "not during them, so that some of it stays when drift is taken out.",
    "Made-up frames are of other sizes when they are compressed. That is taken out of the rate only, and for the mean of a run.",
    "Made-up frames leave at each exit as often as predicted: how often pictures do that the records do not hold is no part of "
    "these errors.",
)
# These end the program as exceptions do, so that the namespaces go.
ENDING = (signal.SIGTERM, signal.SIGHUP)


class Scenario(NamedTuple):
    model: str
    link: str
    slowdown: int

    def __str__(self):
        return f"{self.model}, {self.link}, slowdown {self.slowdown}"


# The most different ones first: where the time runs out, the last ones are left out.
SCENARIOS = [
    Scenario("alexnet", "10mbit", 8),
    Scenario("resnet56", "2mbit", 1),
    Scenario("googlenet", "200mbit", 8),
    Scenario("vgg16", "50mbit", 4),
    Scenario("alexnet", "20mbit-deep", 1),
    Scenario("resnet56", "50mbit", 8),
    Scenario("googlenet", "10mbit", 4),
    Scenario("alexnet", "200mbit", 4),
    Scenario("resnet56", "20mbit-deep", 4),
    Scenario("googlenet", "2mbit", 1),
    Scenario("alexnet", "50mbit", 1),
    Scenario("vgg16", "10mbit", 8),
    Scenario("resnet56", "200mbit", 1),
    Scenario("googlenet", "20mbit-deep", 8),
    Scenario("alexnet", "2mbit", 4),
    Scenario("vgg16", "2mbit", 1),
]


class Unavailable(Exception):
    """This host cannot make the network; the text says why."""


class Failed(Exception):
    """A command of coprof's failed; the text is what it said last."""


def say(text):
    print(text, file=sys.stderr, flush=True)


# ── the network ───────────────────────────────────────────────────────────────────────────────────


def do(*command):
    """Runs a command that readies the network."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        said = last_line(done.stderr) or f"exit code {done.returncode}"
        raise Unavailable(f"`{' '.join(command)}` fails ({said})")


def last_line(text):
    return text.strip().splitlines()[-1].strip() if text.strip() else ""


class Network:
    """Two namespaces, a pair of virtual interfaces between them, and an address of its own on both ends for each link:
    coprof takes a saved measurement of a link for that of the same address."""

    def __init__(self):
        self.spaces = {side: f"coprof-truth-{os.getpid()}-{side}" for side in ("device", "edge")}

    def __enter__(self):
        try:
            self.make()
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(self, *_):
        self.remove()

    def make(self):
        if os.geteuid() != 0:
            raise Unavailable("it was not run as root")
        missing = [tool for tool in ("ip", "tc") if not shutil.which(tool)]
        if missing:
            raise Unavailable(f"there is no `{missing[0]}`")
        for space in self.spaces.values():
            do("ip", "netns", "add", space)
        device, edge = self.spaces.values()
        do("ip", "link", "add", "device", "netns", device, "type", "veth", "peer", "name", "edge", "netns", edge)
        for host, side in enumerate(self.spaces, start=1):
            for link in range(len(LINKS)):
                do(*self.inside(side, "ip", "addr", "add", f"10.77.{link}.{host}/24", "dev", side))
            for interface in (side, "lo"):
                do(*self.inside(side, "ip", "link", "set", interface, "up"))
        for link in LINKS:
            self.shape(link)

    def inside(self, side, *command):
        return ("ip", "netns", "exec", self.spaces[side], *command)

    def shape(self, link):
        rate, burst = LINKS[link]
        shape = ("rate", rate, "burst", burst, "latency", QUEUE)
        for side in self.spaces:
            do(*self.inside(side, "tc", "qdisc", "replace", "dev", side, "root", "tbf", *shape))

    def edge_address(self, link):
        return f"10.77.{list(LINKS).index(link)}.2"

    def remove(self):
        for name in (signal.SIGINT, *ENDING):
            signal.signal(name, signal.SIG_IGN)
        for space in self.spaces.values():
            with contextlib.suppress(OSError):
                subprocess.run(("ip", "netns", "del", space), stderr=subprocess.DEVNULL)


@contextlib.contextmanager
def serving(network, folder):
    command = network.inside("edge", str(COPROF), "serve", "--listen", "0.0.0.0", "--insecure")
    with open(folder / "stderr", "w+") as errors:
        server = subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, text=True
        )
        try:
            if not server.stdout.readline():
                errors.seek(0)
                sys.exit(f"`coprof serve` ended: {last_line(errors.read())}")
            yield
        finally:
            server.terminate()
            try:
                server.wait(timeout=10)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


# ── running ───────────────────────────────────────────────────────────────────────────────────────


class Log:
    """Rows of what was run, from which the page is made; also written to a file, each as it comes."""

    def __init__(self, path):
        self.rows = []
        self.file = open(path, "w") if path else None

    def add(self, kind, **row):
        self.rows.append({"kind": kind, **row})
        if self.file:
            print(json.dumps(self.rows[-1]), file=self.file, flush=True)


def coprof(network, folder, arguments):
    """The document that a command prints, and its seconds."""
    command = network.inside("device", str(COPROF), *arguments)
    start = time.monotonic()
    try:
        done = subprocess.run(
            command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LONGEST_COMMAND_S
        )
    except subprocess.TimeoutExpired:
        raise Failed(f"not done after {LONGEST_COMMAND_S} s") from None
    if done.returncode:
        raise Failed(f"exit code {done.returncode}: {last_line(done.stderr)}")
    try:
        return json.loads(done.stdout), time.monotonic() - start
    except ValueError as error:
        raise Failed(f"no JSON on stdout ({error})") from None


def kept(document, keys):
    """These keys of a document, without what is long."""
    if isinstance(document, dict):
        document = {key: kept(value, None) for key, value in document.items() if keys is None or key in keys}
        document.pop("calibration", None)
    elif isinstance(document, list):
        document = [kept(value, None) for value in document]
    return document


OPTIMIZE_KEYS = "created coprof_version host accuracy_floor uncut_accuracy best policies search".split()
REPLAY_KEYS = "created name plan predicted measured error drift efficiency agreement accuracy_basis frames".split()


def plan_key(plan):
    """Text that is the same for plans that do the same."""
    exits = [exit for exit in plan["exits"] if exit["threshold"] != "never"]
    return json.dumps([plan["nodes"], plan["links"], exits], sort_keys=True)


def plans_to_run(optimized, place, most):
    """Ours, named None, and so many different ones of baselines: the simple ones first, then others by turns."""
    choices = {choice["name"]: choice for choice in optimized["policies"]}
    others = [name for name in choices if name not in ALWAYS_RUN]
    turn = place % max(len(others), 1)
    order = [name for name in ALWAYS_RUN if name in choices] + others[turn:] + others[:turn]
    plans, seen = [(None, optimized["best"]["prediction"])], {plan_key(optimized["best"]["plan"])}
    for name in order:
        key = plan_key(choices[name]["plan"])
        if key not in seen and len(plans) <= most:
            seen.add(key)
            plans.append((name, choices[name]["prediction"]))
    return plans


def tasks_for(prediction):
    """So many that neither pass takes long: all of them with the pipeline full, or a quarter to half as many one at a time."""
    full = FULL_S * prediction["rate_per_s"]
    single = 2 * SINGLE_S * 1e6 / prediction["latency_us"]
    return round(min(max(min(full, single), FEWEST_TASKS), MOST_TASKS))


class Runner:
    def __init__(self, network, folder, options, log):
        self.network, self.folder, self.options, self.log = network, folder, options, log
        self.deadline = time.monotonic() + 60 * options.minutes

    def is_late(self):
        return time.monotonic() > self.deadline

    def coprof(self, scenario, command, *arguments):
        """As `coprof`, in the model's folder; None where it fails, which is logged."""
        folder = self.folder / scenario.model
        folder.mkdir(exist_ok=True)
        flags = ["--peer", self.network.edge_address(scenario.link), "--model", scenario.model]
        if scenario.slowdown != 1:
            flags += ["--slowdown", str(scenario.slowdown)]
        arguments = [command, *flags, *arguments, "--json"]
        try:
            return coprof(self.network, folder, arguments)
        except Failed as error:
            say(f"  {command} failed: {error}")
            self.log.add("failed", scenario=scenario, command=shlex.join(["coprof", *arguments]), said=str(error))
            return None

    def scenario(self, scenario):
        self.network.shape(scenario.link)
        done = self.coprof(scenario, "optimize")
        if done is None:
            return
        optimized, seconds = done
        say(f"  optimize: {seconds:.0f} s")
        self.log.add("optimize", scenario=scenario, seconds=seconds, document=kept(optimized, OPTIMIZE_KEYS))
        plans = plans_to_run(optimized, SCENARIOS.index(scenario), self.options.baselines)
        for at, (policy, prediction) in enumerate(plans):
            if self.is_late():
                self.log.add("skipped", scenario=scenario, plans=[name or "coprof" for name, _ in plans[at:]])
                return
            self.replay(scenario, policy, tasks_for(prediction))

    def replay(self, scenario, policy, tasks):
        arguments = ["--tasks", str(tasks)]
        if policy:
            arguments += ["--policy", policy]
        if self.options.data:
            arguments += ["--data", str(self.options.data)]
        done = self.coprof(scenario, "replay", *arguments)
        if done is None:
            return
        document, seconds = done
        row = {"scenario": scenario, "policy": policy, "tasks": tasks, "seconds": seconds}
        self.log.add("replay", **row, document=kept(document, REPLAY_KEYS))
        error = document["error"]
        off = f"rate {signed(error['rate'])}, latency {signed(error['latency'])}"
        say(f"  {document['name']}: {tasks} tasks, {seconds:.0f} s, {off}")


def processor():
    with contextlib.suppress(OSError):
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.machine()


def run_all(options, log):
    scenarios = [scenario for scenario in SCENARIOS if matches(scenario, options.only)]
    if options.quick:
        scenarios = scenarios[:QUICK_SCENARIOS]
    facts = {"cpu": processor(), "cores": os.cpu_count(), "kernel": f"{platform.system()} {platform.release()}"}
    start = time.monotonic()
    with Network() as network, tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "edge").mkdir()
        log.add("start", arguments=sys.argv[1:], **facts)
        with serving(network, folder / "edge"):
            runner = Runner(network, folder, options, log)
            for at, scenario in enumerate(scenarios, start=1):
                if runner.is_late():
                    log.add("skipped", scenario=scenario, plans=None)
                    continue
                say(f"{at} of {len(scenarios)}: {scenario}")
                runner.scenario(scenario)
    log.add("end", seconds=time.monotonic() - start)


def matches(scenario, only):
    return all(part.strip() in str(value) for part, value in zip(only.split(","), scenario))


# ── figures ───────────────────────────────────────────────────────────────────────────────────────

KEYS = {"rate": "rate_per_s", "latency": "latency_us", "accuracy": "accuracy"}


def dig(document, *keys):
    """What lies under these keys; None where one is absent."""
    for key in keys:
        document = document.get(key) if isinstance(document, dict) else None
    return document


class Run:
    """A replay. What takes `drift` gives a figure without (True) or with the change of the hosts' speeds."""

    def __init__(self, row):
        self.document = row["document"]
        self.scenario = Scenario(*row["scenario"])
        self.name, self.is_ours = self.document["name"], row["policy"] is None
        self.predicted, self.bottleneck = self.document["predicted"], self.document["predicted"]["bottleneck"]

    def measured(self, figure):
        value = dig(self.document, "measured", KEYS[figure])
        return value["mean"] if figure == "latency" else value

    def off(self, figure, drift):
        return dig(self.document, *(["drift"] if drift else []), "error", figure)

    def is_inside(self, figure, drift):
        # The speeds of hosts do not change what is right.
        source = "drift" if drift and figure != "accuracy" else "predicted"
        interval, measured = dig(self.document, source, "interval95", KEYS[figure]), self.measured(figure)
        if interval is None or measured is None:
            return None
        return interval[0] <= measured <= interval[1]

    def rate(self, drift):
        """The measured one; without drift, what it would have been at the speeds of the profiles."""
        off = self.off("rate", drift)
        return None if off is None else self.predicted["rate_per_s"] * (1 + off)

    def best_off(self, figure):
        """Without drift where that is known."""
        off = self.off(figure, True)
        return self.off(figure, False) if off is None else off

    def is_inside_best(self, figure):
        inside = self.is_inside(figure, True)
        return self.is_inside(figure, False) if inside is None else inside

    def widest_stage(self):
        """Name, predicted and measured time of the stage where the two are furthest apart."""
        measured = {stage["name"]: stage["time_us"] for stage in self.document["measured"]["stages"]}
        both = [(stage["name"], stage["time_us"], measured.get(stage["name"], 0.0)) for stage in self.predicted["stages"]]
        return max(both, key=lambda stage: abs(stage[2] - stage[1]))


def percentile(values, share):
    """As everywhere in coprof; None of what is absent."""
    known = sorted(value for value in values if value is not None)
    return known[min(int(len(known) * share), len(known) - 1)] if known else None


def sizes(runs, figure, drift):
    """How far off, whichever way."""
    offs = (run.off(figure, drift) for run in runs)
    return [abs(off) for off in offs if off is not None]


def coverage(runs, figure, drift):
    known = [inside for run in runs if (inside := run.is_inside(figure, drift)) is not None]
    return sum(known) / len(known) if known else None


class Regret(NamedTuple):
    scenario: Scenario
    plans: int
    best: Run
    ours: Run
    share: float


def regrets(runs, floors, drift):
    """For each scenario how far our rate lies under the best one of a plan that keeps the same accuracy floor."""
    found = []
    for scenario, floor in floors.items():
        own = [run for run in runs if run.scenario == scenario and run.rate(drift) is not None]
        ours = next((run for run in own if run.is_ours), None)
        if ours is None:
            continue
        fit = [run for run in own if run.is_ours or run.predicted["accuracy"] >= floor - FLOOR_SLACK]
        best = max(fit, key=lambda run: run.rate(drift))
        found.append(Regret(scenario, len(fit), best, ours, 1 - ours.rate(drift) / best.rate(drift)))
    return found


# ── the page ──────────────────────────────────────────────────────────────────────────────────────


def paragraph(*sentences):
    return [*textwrap.wrap(" ".join(sentences), WIDTH, break_long_words=False, break_on_hyphens=False), ""]


def bullet(text):
    return textwrap.wrap(text, WIDTH, initial_indent="- ", subsequent_indent="  ", break_on_hyphens=False)


def table(head, rows, left=1):
    """The first `left` columns are text, the others figures."""
    rule = ["---"] * left + ["---:"] * (len(head) - left)
    return ["| " + " | ".join(cells) + " |" for cells in (head, rule, *rows)] + [""]


def signed(share):
    return "–" if share is None else f"{100 * share:+.1f} %"


def percent(share):
    return "–" if share is None else f"{100 * share:.1f} %"


def number(value):
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def milliseconds(micros):
    return number(micros / 1000)


def yes(inside):
    return {None: "–", True: "yes", False: "no"}[inside]


def counted(count, what):
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def judged(value, low, high):
    """In bold where it misses its aim."""
    text = percent(value)
    return text if value is None or low <= value <= high else f"**{text}**"


def heading(rows, runs):
    start = next(row for row in rows if row["kind"] == "start")
    end = next((row for row in rows if row["kind"] == "end"), None)
    command = shlex.join(["python3", "scripts/truth.py", *start["arguments"]])
    links = ", ".join(f"`{name}` {rate}/{burst}" for name, (rate, burst) in LINKS.items())
    optimized = sum(row["kind"] == "optimize" for row in rows)
    lines = paragraph(
        f"Made by `sudo {command} > docs/truth.md` on one host: {start['cpu']}, {counted(start['cores'], 'core')},",
        f"{start['kernel']}.",
        f"It took {end['seconds'] / 60:.0f} minutes." if end else "It was cut off before its end.",
        "Device and edge run in two network namespaces of that host, and the kernel shapes the link between them, both ways:",
        f"`tc … tbf rate RATE burst BURST latency {QUEUE}`, RATE/BURST of {links}. The device is emulated: at slowdown N it does",
        "each piece of work over and over until N times its time has passed.",
    )
    lines += paragraph(
        f"{counted(optimized, 'scenario')} and {counted(len(runs), 'replay')} (aim: at least {FEWEST_REPLAYS}).",
        "In each scenario `coprof optimize` plans, then `coprof replay` runs our plan and baselines' plans that differ from it and",
        "from each other.",
    )
    return [TITLE, "", *lines]


def answers(runs):
    counts = [run.document["agreement"] for run in runs]
    same, tasks = (sum(count[key] for count in counts) for key in ("same", "tasks"))
    efficiency = percentile([run.document["efficiency"] for run in runs], 0.5)
    return paragraph(
        f"Frames: {', '.join(sorted({run.document['frames'] for run in runs}))}. In the median the pipeline ran at",
        f"{percent(efficiency)} of its bottleneck's own rate. {same} of {tasks} answers were those of the same plan in one",
        "process.",
    )


def summary(runs, floors):
    rows = []

    def row(name, aim, low, high, values):
        rows.append([name, aim, *(judged(value, low, high) for value in values)])

    for figure, most in (("rate", 0.03), ("latency", 0.05)):
        for name, share, aim in (("median", 0.5, most), ("90th percentile", 0.9, FAR_OFF)):
            values = [percentile(sizes(runs, figure, drift), share) for drift in DRIFTS]
            row(f"error of {figure}, {name}", f"≤ {100 * aim:.0f} %", 0, aim, values)
    figures = [figure for figure in KEYS if any(run.measured(figure) is not None for run in runs)]
    for figure in figures:
        values = [coverage(runs, figure, drift) for drift in DRIFTS]
        row(f"{figure} inside its 95 % interval", "90 to 99 %", 0.90, 0.99, values)
    for name, share, aim in (("median", 0.5, 0.01), ("worst", 1.0, 0.05)):
        values = [percentile([regret.share for regret in regrets(runs, floors, drift)], share) for drift in DRIFTS]
        row(f"regret of our plan's rate, {name}", f"≤ {100 * aim:.0f} %", 0, aim, values)
    lines = table(["over all runs", "aim", "no drift", "as measured"], rows)
    if any("**" in line for line in lines):
        lines += paragraph("Figures in **bold** miss their aim.")
    return lines + paragraph(
        "An **error** is measured against predicted, as a share of the prediction; medians and percentiles are of its size.",
        "**No drift**: against what would have been predicted with the speeds that the hosts had during the replay instead of",
        "those of their profiles, and for the rate with messages as large as they were where frames are made up.",
        "**Regret**: how far the rate of our plan lies under the best one measured in the same scenario",
        "among the plans that ran and whose predicted accuracy keeps the same floor. Percentile `p` of `n` values is",
        "`sorted[floor(n·p)]`; – stands where nothing is known.",
    )


def breakdowns(runs):
    lines = ["## Where errors come from", "", *paragraph("Medians of the errors' size.")]
    groups = {
        "bottleneck": (lambda run: run.bottleneck, sorted({run.bottleneck for run in runs})),
        "link": (lambda run: run.scenario.link, LINKS),
        "slowdown": (lambda run: run.scenario.slowdown, sorted({run.scenario.slowdown for run in runs})),
        "model": (lambda run: run.scenario.model, sorted({run.scenario.model for run in runs})),
    }
    rows = []
    for title, (of, values) in groups.items():
        for value in values:
            own = [run for run in runs if of(run) == value]
            medians = [percentile(sizes(own, figure, drift), 0.5) for figure in ("rate", "latency") for drift in DRIFTS]
            if own:
                rows.append([f"{title} {value}", str(len(own)), *map(percent, medians)])
    head = ["", "runs", "rate, no drift", "as measured", "latency, no drift", "as measured"]
    return lines + table(head, rows)


def regret_section(runs, floors):
    clean = {regret.scenario: regret.share for regret in regrets(runs, floors, True)}
    rows = []
    for scenario, plans, best, ours, share in regrets(runs, floors, False):
        place = [scenario.model, scenario.link, str(scenario.slowdown), best.name]
        rates = [number(ours.rate(False)), number(best.rate(False))]
        rows.append([*place, str(plans), *rates, percent(share), percent(clean.get(scenario))])
    head = ["model", "link", "slowdown", "best", "plans", "our rate", "best rate", "regret", "no drift"]
    intro = "The plan with the best measured rate among those that keep the accuracy floor, ours among them; tasks per second."
    return ["## Regret", "", *paragraph(intro), *table(head, rows, left=4)]


def outside_line(run):
    """What to say of a run that lies outside; None where it does not."""
    far = any(abs(run.best_off(figure) or 0) > FAR_OFF for figure in ("rate", "latency"))
    missed = [figure for figure in KEYS if run.is_inside_best(figure) is False]
    if not far and not missed:
        return None
    offs = ", ".join(f"{figure} {signed(run.best_off(figure))}" for figure in ("rate", "latency"))
    interval = f"; outside the interval of {' and '.join(missed)}" if missed else ""
    stage, predicted, measured = run.widest_stage()
    times = f"{milliseconds(predicted)} ms predicted, {milliseconds(measured)} ms measured"
    nodes = dig(run.document, "drift", "nodes") or []
    speeds = ", ".join(f"{node['name']} {node['slower']:.2f}" for node in nodes)
    drift = f"; speeds against the profile: {speeds}" if speeds else ""
    return f"{run.scenario}, {run.name}: {offs}{interval}; the {stage} differs most, {times}{drift}."


def outside(runs):
    found = [line for run in runs if (line := outside_line(run))]
    unknown = sum(run.off("rate", True) is None for run in runs)
    lines = paragraph(
        f"{len(found)} of {counted(len(runs), 'run')}: without drift more than {100 * FAR_OFF:.0f} % off in rate or latency, or",
        "outside a 95 % interval. Stage times are means over all tasks, drift included.",
        f"Drift is not known of {counted(unknown, 'run')}, for which errors as measured count." if unknown else "",
    )
    lines = ["## What lies outside", "", *lines]
    for line in found:
        lines += bullet(line)
    lines += ["", *paragraph("Known causes:")] if found else []
    for cause in NOT_MODELLED if found else ():
        lines += bullet(cause)
    return [*lines, ""] if found else lines


def troubles(rows):
    lines = []
    failed = [row for row in rows if row["kind"] == "failed"]
    if failed:
        lines += ["## Commands that failed", ""]
        for row in failed:
            lines += bullet(f"{Scenario(*row['scenario'])}: `{row['command']}`: {row['said']}")
        lines.append("")
    skipped = [row for row in rows if row["kind"] == "skipped"]
    if skipped:
        lines += ["## Not run", "", "The time ran out before:", ""]
        for row in skipped:
            plans = f": {', '.join(row['plans'])}" if row["plans"] else ""
            lines += bullet(f"{Scenario(*row['scenario'])}{plans}")
        lines.append("")
    return lines


def run_row(run):
    measured = run.document["measured"]["bottleneck"]
    slowest = run.bottleneck if measured == run.bottleneck else f"{run.bottleneck} → {measured}"
    cells = [run.name, run.scenario.link, str(run.scenario.slowdown), slowest]
    for figure, shown in (("rate", number), ("latency", milliseconds)):
        cells.append(f"{shown(run.predicted[KEYS[figure]])} → {shown(run.measured(figure))}")
        cells += [signed(run.off(figure, drift)) for drift in (False, True)]
    cells.append(", ".join(yes(run.is_inside_best(figure)) for figure in ("rate", "latency")))
    return cells


def every_run(runs):
    lines = ["## Every run", ""]
    lines += paragraph(
        "Predicted → measured, with the error as measured and that without drift. Slowest: the bottleneck, predicted →",
        "measured where the two differ. Inside: whether rate and latency lie inside their 95 % intervals, without drift where it",
        "is known.",
    )
    head = ["plan", "link", "slowdown", "slowest", "tasks/s", "off", "no drift", "latency, ms", "off", "no drift", "inside"]
    for model in dict.fromkeys(scenario.model for scenario in SCENARIOS):
        own = [run for run in runs if run.scenario.model == model]
        if own:
            lines += [f"### {model}", "", *table(head, map(run_row, own), left=4)]
    return lines


def page(rows):
    runs = [Run(row) for row in rows if row["kind"] == "replay"]
    optimized = [row for row in rows if row["kind"] == "optimize"]
    floors = {Scenario(*row["scenario"]): row["document"]["accuracy_floor"] for row in optimized}
    lines = heading(rows, runs)
    if runs:
        lines += [*answers(runs), *summary(runs, floors), *breakdowns(runs), *regret_section(runs, floors), *outside(runs)]
    lines += troubles(rows)
    if runs:
        lines += every_run(runs)
    return "\n".join(lines).rstrip()


def unavailable_page(reason):
    needs = "`sudo python3 scripts/truth.py > docs/truth.md` needs root, `ip` and `tc` of iproute2, network namespaces and the"
    text = paragraph(f"Nothing was measured: {reason}.", needs, "kernel's token bucket filter.")
    return "\n".join([TITLE, "", *text]).rstrip()


# ── the program ───────────────────────────────────────────────────────────────────────────────────


def asked():
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], epilog="The page goes to stdout, progress to stderr.", allow_abbrev=False
    )
    parser.add_argument("--minutes", type=float, default=28.5, help="start nothing after this time [default: 28.5]")
    parser.add_argument("--baselines", type=int, default=4, metavar="N", help="baselines' plans per scenario [default: 4]")
    parser.add_argument("--data", type=pathlib.Path, metavar="DIR", help="CIFAR-10 for `coprof replay`: measures accuracy")
    links = f"only scenarios with these substrings, empty for any; links: {', '.join(LINKS)}"
    parser.add_argument("--only", default="", metavar="MODEL,LINK,SLOWDOWN", help=links)
    parser.add_argument("--quick", action="store_true", help="three scenarios with two plans each, to try it")
    parser.add_argument("--raw", type=pathlib.Path, metavar="FILE", help="write the figures as JSON lines as they come")
    parser.add_argument("--from-raw", type=pathlib.Path, metavar="FILE", help="make the page of such a file, run nothing")
    options = parser.parse_args()
    if options.quick:
        options.baselines = QUICK_BASELINES
    if options.data:
        options.data = options.data.resolve()
    return options


def main():
    options = asked()
    if options.from_raw:
        print(page([json.loads(line) for line in options.from_raw.read_text().splitlines()]))
        return
    if not COPROF.exists():
        sys.exit(f"expected the program at {os.path.relpath(COPROF)}; run `cargo build --release` first")
    for name in ENDING:
        if signal.getsignal(name) != signal.SIG_IGN:
            signal.signal(name, lambda number, _: sys.exit(128 + number))
    log = Log(options.raw)
    try:
        run_all(options, log)
    except Unavailable as error:
        print(unavailable_page(error))
        return
    except KeyboardInterrupt:
        sys.exit(130)
    print(page(log.rows))


if __name__ == "__main__":
    main()
