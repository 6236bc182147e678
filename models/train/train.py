"""Trains the bundled networks with all their exits jointly (BranchyNet, ICPR 2016, section III-B) and keeps checkpoints.

    python models/train/train.py alexnet --data DIR      resumes where it stopped; `export.py` writes the ONNX file

All but resnet18 are taught by resnet18, which is therefore trained first. Several networks are trained side by side on an
accelerator, one after another elsewhere. A line every two minutes gives the accuracy of the averaged weights on the
validation images.
"""

import argparse
import contextlib
import copy
import math
import os
import pathlib
import time

import torch
from torch import nn

import cifar10
from networks import NETWORKS

CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "coprof" / "train"
TEACHER = "resnet18"
# The cheapest first. `weights` are those of the exits' losses, `mixing` is the share of the images that get a box of another
# (CutMix).
RECIPE = {
    "alexnet": {"epochs": 113, "mixing": 0.3, "weights": (0.3, 0.3, 1.0)},
    "googlenet": {"epochs": 99, "mixing": 0.4, "weights": (0.3, 0.3, 1.0)},
    "resnet56": {"epochs": 120, "mixing": 0.3, "weights": (0.3, 0.3, 1.0)},
    "msdnet": {"epochs": 71, "mixing": 0.4, "weights": (0.4, 0.2, 0.2, 0.2, 0.2, 0.4, 1.0)},
    "vgg16": {"epochs": 71, "mixing": 0.5, "weights": (0.3, 0.3, 0.3, 1.0)},
    "resnet18": {"epochs": 50, "mixing": 0.5, "weights": (1.0,)},
}
BATCH, RATE, MOMENTUM, WEIGHT_DECAY, AVERAGE_DECAY = 256, 0.15, 0.9, 5e-4, 0.998
WARM_UP = 0.1
TEMPERATURE, TAUGHT_SHARE, SMOOTHING = 4.0, 0.8, 0.1
SAVED_EVERY_S, REPORTED_EVERY_S, WARM_STEPS = 60, 120, 3
# To shorten: the share of the time that the teacher gets, steps that are timed, and what is kept in hand.
TEACHER_TIME, TIMED_STEPS, SAFETY = 0.12, 100, 0.9


def half_width(device):
    """Layers compute in bfloat16, parameters and losses in single precision; all in single precision where oneDNN has no
    bfloat16 for the processor: PyTorch's own is eight times slower than it."""
    fast = device.type == "cuda" or torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return torch.autocast(device.type, torch.bfloat16, enabled=fast, cache_enabled=False)


def accuracy(model, pixels, labels, device):
    """Share right at each exit."""
    right = torch.zeros(len(model.exits), device=device)
    with torch.inference_mode(), half_width(device):
        for images, aimed in zip(pixels.split(250), labels.split(250), strict=True):
            images = images.to(device).float().contiguous(memory_format=torch.channels_last)
            right += torch.stack([(logits.argmax(1) == aimed.to(device)).sum() for logits in model(images)])
    return (right / len(labels)).tolist()


def shown(exits, shares):
    return "  ".join(f"{name} {100 * share:.2f} %" for name, share in zip(exits, shares, strict=True))


def image_losses(logits, targets, taught):
    """Cross-entropy with the smoothed targets; where they are taught, mostly the divergence from the teacher's softened
    answers, scaled back by the temperature squared (Hinton et al. 2015, section 2)."""
    logits = logits.float()
    if taught is None:
        return nn.functional.cross_entropy(logits, targets, reduction="none")
    soft, aimed = ((each / TEMPERATURE).log_softmax(1) for each in (logits, taught))
    divergence = nn.functional.kl_div(soft, aimed, reduction="none", log_target=True).sum(1) * TEMPERATURE**2
    labelled = nn.functional.cross_entropy(logits, targets, reduction="none", label_smoothing=SMOOTHING)
    return (1 - TAUGHT_SHARE) * labelled + TAUGHT_SHARE * divergence


class Training:
    """A network on its way: its parameters, their averages and momenta, the chance that varies its images, its epoch."""

    def __init__(self, network, images, device, seed, teacher=None):
        torch.manual_seed(seed)
        self.network, self.recipe, self.device, self.teacher = network, RECIPE[network], device, teacher
        self.generator = torch.Generator(device).manual_seed(seed)
        self.model = NETWORKS[network]().to(device, memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.model).eval()
        self.parameters = sorted(self.model.parameters(), key=torch.Tensor.dim, reverse=True)
        self.decaying = sum(parameter.dim() > 1 for parameter in self.parameters)
        self.momenta = [torch.zeros_like(p) for p in self.parameters]
        self.chance = cifar10.Chance(images, BATCH, self.recipe["mixing"], self.generator)
        self.rates = torch.zeros(self.chance.steps, device=device)
        self.step_number = torch.zeros(1, dtype=torch.int64, device=device)
        self.loss = torch.zeros((), device=device)
        self.epochs, self.epoch, self.issued = self.recipe["epochs"], 0, 0
        self.step = self.eager_step

    def state(self):
        return {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "momenta": self.momenta,
            "generator": self.generator.get_state(),
            "mirrored_first": self.chance.mirrored_first,
            "epoch": self.epoch,
            "epochs": self.epochs,
        }

    def load(self, state):
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        for momentum, saved in zip(self.momenta, state["momenta"], strict=True):
            momentum.copy_(saved)
        self.generator.set_state(state["generator"])
        self.chance.mirrored_first.copy_(state["mirrored_first"])
        self.epoch, self.epochs = state["epoch"], state["epochs"]

    def start_epoch(self):
        self.model.train()
        self.chance.draw(self.epoch)
        steps = self.chance.steps
        self.rates.copy_(torch.tensor([rate((self.epoch + n / steps) / self.epochs) for n in range(steps)]))
        self.step_number.zero_()
        self.loss.zero_()

    def eager_step(self):
        images, targets = self.chance.varied(self.step_number)
        with half_width(self.device):
            exits = self.model(images)
            with torch.no_grad():
                taught = self.teacher(images)[-1].float() if self.teacher else None
        losses = [image_losses(logits, targets, taught).mean() for logits in exits]
        loss = sum(weight * each for weight, each in zip(self.recipe["weights"], losses, strict=True))
        self.descend(torch.autograd.grad(loss, self.parameters))
        self.loss += loss.detach()
        self.step_number += 1

    @torch.no_grad()
    def descend(self, gradients):
        """Stochastic gradient descent with Nesterov's momentum; biases and norms don't decay. Then the averages follow."""
        gradients, some = list(gradients), slice(self.decaying)
        gradients[some] = torch._foreach_add(gradients[some], self.parameters[some], alpha=WEIGHT_DECAY)
        torch._foreach_mul_(self.momenta, MOMENTUM)
        torch._foreach_add_(self.momenta, gradients)
        moves = torch._foreach_mul(self.momenta, MOMENTUM)
        torch._foreach_add_(moves, gradients)
        torch._foreach_mul_(moves, self.rates.index_select(0, self.step_number)[0])
        torch._foreach_sub_(self.parameters, moves)
        averages, values = (self.floats(model) for model in (self.average, self.model))
        torch._foreach_lerp_(averages, values, 1 - AVERAGE_DECAY)

    @staticmethod
    def floats(model):
        return [tensor for tensor in model.state_dict().values() if tensor.is_floating_point()]

    def record(self):
        """On an accelerator: from now on a step is one recorded graph, and runs beside those of other networks."""
        self.stream = torch.cuda.Stream()
        before = copy.deepcopy(self.state())
        torch.cuda.synchronize()
        with torch.cuda.stream(self.stream):
            self.start_epoch()
            for _ in range(WARM_STEPS):
                self.eager_step()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self.stream):
            self.eager_step()
        self.step = graph.replay
        self.load(before)
        torch.cuda.synchronize()

    def on_its_stream(self):
        return torch.cuda.stream(self.stream) if self.device.type == "cuda" else contextlib.nullcontext()

    def advance(self, steps):
        with self.on_its_stream():
            for _ in range(steps):
                if self.issued % self.chance.steps == 0:
                    self.start_epoch()
                self.step()
                self.issued += 1
                if self.issued % self.chance.steps == 0:
                    self.epoch += 1

    @property
    def total_steps(self):
        return self.epochs * self.chance.steps


def rate(progress):
    """Rises over the first tenth of the training, then falls along half a cosine to nothing."""
    if progress < WARM_UP:
        return RATE * progress / WARM_UP
    return RATE * (1 + math.cos(math.pi * (progress - WARM_UP) / (1 - WARM_UP))) / 2


class Checkpoints:
    def __init__(self, folder):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def path(self, network):
        return self.folder / f"{network}.pt"

    def resume(self, training):
        if self.path(training.network).exists():
            training.load(torch.load(self.path(training.network), weights_only=True, map_location="cpu"))
            training.issued = training.epoch * training.chance.steps

    def save(self, training):
        written = self.path(training.network).with_suffix(".part")
        with training.on_its_stream():  # Behind the steps that were issued, not in the middle of one.
            torch.save(training.state(), written)
        written.rename(self.path(training.network))


def trained(network, folder):
    """A trained network: its averaged weights, ready for inference."""
    model = NETWORKS[network]()
    model.load_state_dict(torch.load(folder / f"{network}.pt", weights_only=True, map_location="cpu")["average"])
    return model.eval()


def train_together(trainings, validation, checkpoints):
    """Each network advances in proportion, so that all end together. Without an accelerator a tick is an epoch."""
    accelerated = trainings[0].device.type == "cuda"
    ticks = max(training.epochs for training in trainings) * (10 if accelerated else 1)
    ends, saved, reported = [], time.monotonic(), time.monotonic()
    for tick in range(1, ticks + 1):
        for training in trainings:
            training.advance(training.total_steps * tick // ticks - training.issued)
        if accelerated:
            # The device always has one tick more to do, and never many.
            ends.append([training.stream.record_event() for training in trainings])
            for event in ends.pop(0) if len(ends) > 1 else ():
                event.synchronize()
        if tick == ticks or time.monotonic() - saved > SAVED_EVERY_S:
            for training in trainings:
                checkpoints.save(training)
            saved = time.monotonic()
        if tick == ticks or time.monotonic() - reported > REPORTED_EVERY_S:
            for training in trainings:
                report(training, validation)
            reported = time.monotonic()


def report(training, validation):
    with training.on_its_stream():
        shares = accuracy(training.average, *validation, training.device)
        loss = (training.loss / ((training.issued - 1) % training.chance.steps + 1)).item()
    done = f"{training.network:9} {training.issued / training.chance.steps:6.1f}/{training.epochs}  loss {loss:.3f}"
    print(f"{time.strftime('%H:%M:%S')}  {done}  {shown(training.model.exits, shares)}", flush=True)


def shorten(trainings, seconds):
    """Takes epochs from all recipes alike, so that they end in time: as a few steps of each, side by side, foretell."""
    longest = max(training.total_steps for training in trainings)
    states = [copy.deepcopy(training.state()) for training in trainings]
    torch.cuda.synchronize()
    started = time.monotonic()
    for part in range(1, 11):
        for training in trainings:
            training.advance(training.total_steps * TIMED_STEPS * part // 10 // longest - training.issued)
    torch.cuda.synchronize()
    needed = (time.monotonic() - started) / TIMED_STEPS * longest
    share = min(1.0, SAFETY * seconds / needed)
    for training, state in zip(trainings, states, strict=True):
        training.load(state)
        training.issued, training.epochs = 0, max(1, round(training.epochs * share))
    torch.cuda.synchronize()
    print(f"the recipes would take {needed:.0f} s; of their epochs {100 * share:.1f} % are run", flush=True)


class Session:
    """What all trainings of one call share."""

    def __init__(self, args):
        self.begun, self.args = time.monotonic(), args
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        (pixels, labels), self.validation = cifar10.training(args.data)
        self.images = cifar10.Images(pixels, labels, self.device)
        self.checkpoints = Checkpoints(args.checkpoints)

    def train(self, networks, teacher, time_share):
        """Trains them side by side, from their checkpoints on; the share is of the minutes that the call may take."""
        trainings = [Training(network, self.images, self.device, self.args.seed, teacher) for network in networks]
        for training in trainings:
            self.checkpoints.resume(training)
        if self.device.type == "cuda":
            for training in trainings:
                training.record()
            if self.args.minutes and not any(training.epoch for training in trainings):
                left = 60 * self.args.minutes * time_share - (time.monotonic() - self.begun)
                shorten(trainings, max(1.0, left))
        train_together(trainings, self.validation, self.checkpoints)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="+", choices=RECIPE, help="what to train")
    parser.add_argument("--data", required=True, help="folder with the official CIFAR-10 binary files")
    parser.add_argument("--checkpoints", type=pathlib.Path, default=CACHE)
    parser.add_argument("--seed", type=int, default=10)
    parser.add_argument("--minutes", type=float, help="on an accelerator: shorten the recipes to end within this time")
    args = parser.parse_args()

    torch.backends.cudnn.benchmark = True
    session = Session(args)
    session.train([TEACHER], None, TEACHER_TIME)
    taught = [network for network in RECIPE if network in args.networks and network != TEACHER]
    teacher = trained(TEACHER, args.checkpoints).to(session.device, memory_format=torch.channels_last).requires_grad_(False)
    for together in [taught] if session.device.type == "cuda" else [[network] for network in taught]:
        if together:
            session.train(together, teacher, 1.0)
    print(f"done: {args.checkpoints}")


if __name__ == "__main__":
    main()
