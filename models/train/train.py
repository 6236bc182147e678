"""Trains a bundled network with all its exits jointly (BranchyNet, ICPR 2016, section III-B) and keeps checkpoints.

    python models/train/train.py alexnet --data DIR      resumes where it stopped; `export.py` writes the ONNX file
"""

import argparse
import math
import os
import pathlib
import shutil
import sys
import time

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import cifar10
from networks import NETWORKS

CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "coprof" / "train"
# A cycle's `weights` are those of the exits' losses, `hidden` is the side of the square that each training image loses
# (Cutout); where it `warps`, every other image is turned, scaled and recoloured, where it `mixes`, every other one gets a box
# of another (CutMix). In its epochs of `pruned`, from the first up to the last, half of the easy images are left out
# (InfoBatch). All exits imitate the mean answer of the `teachers`, networks as they were after one of their cycles, more than
# the labels. With bfloat16 the layers compute at half width (autocast); parameters, losses and the optimizer stay single.
RECIPE = {
    # The second cycle anneals once more from a lower rate, leans towards the final exit, and averages the weights.
    "alexnet": {
        "precision": torch.float32,
        "cycles": (
            {"epochs": 20, "rate": 0.08, "weights": (0.4, 0.4, 1.0)},
            {"epochs": 10, "rate": 0.04, "weights": (0.2, 0.3, 1.0)},
        ),
    },
    "googlenet": {
        "precision": torch.bfloat16,
        "cycles": (
            {"epochs": 50, "rate": 0.15, "weights": (0.2, 0.2, 1.0), "hidden": 12, "pruned": (22, 44)},
            {"epochs": 24, "rate": 0.08, "weights": (0.1, 0.15, 1.0), "mixes": True},
            {
                "epochs": 10,
                "rate": 0.05,
                "weights": (0.1, 0.15, 1.0),
                "mixes": True,
                "pruned": (0, 9),
                "teachers": ("googlenet-1", "googlenet-2", "resnet56-2"),
            },
        ),
    },
    "resnet56": {
        "precision": torch.bfloat16,
        "cycles": (
            {"epochs": 36, "rate": 0.15, "weights": (0.15, 0.25, 1.0), "pruned": (1, 31)},
            {"epochs": 12, "rate": 0.1, "weights": (0.1, 0.15, 1.0), "hidden": 12, "warps": True},
        ),
    },
    "vgg16": {
        "precision": torch.bfloat16,
        "cycles": (
            {"epochs": 24, "rate": 0.08, "weights": (0.15, 0.15, 0.15, 1.0), "hidden": 12, "pruned": (1, 21)},
            {
                "epochs": 16,
                "rate": 0.06,
                "weights": (0.15, 0.15, 0.15, 1.0),
                "hidden": 12,
                "pruned": (0, 15),
                "teachers": ("googlenet-1",),
            },
        ),
    },
}
BATCH, WEIGHT_DECAY, AVERAGE_DECAY = 128, 5e-4, 0.998
TEMPERATURE, TAUGHT_SHARE = 4.0, 0.8


def computing_in(precision):
    """In single precision anyway where oneDNN has no bfloat16 for the processor: PyTorch's own is eight times slower than it."""
    halves = precision == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return torch.autocast("cpu", torch.bfloat16, enabled=halves)


def accuracy(model, pixels, labels, precision):
    """Share right at each exit."""
    model.eval()
    right = [0] * len(model.exits)
    with torch.inference_mode(), computing_in(precision):
        for at in range(0, len(labels), 500):
            images = pixels[at : at + 500].float().contiguous(memory_format=torch.channels_last)
            for e, logits in enumerate(model(images)):
                right[e] += (logits.argmax(1) == labels[at : at + 500]).sum().item()
    return [r / len(labels) for r in right]


def shown(exits, shares):
    return "  ".join(f"{name} {100 * share:.2f} %" for name, share in zip(exits, shares, strict=True))


def optimizer_of(model):
    """Its rate and momentum are those of `set_rate`."""
    decayed = [p for p in model.parameters() if p.dim() > 1]
    others = [p for p in model.parameters() if p.dim() <= 1]
    return torch.optim.SGD(
        [{"params": decayed, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0.0}],
        momentum=0.9,
        nesterov=True,
    )


def images_of_epoch(losses, pruned, generator):
    """An epoch's images, shuffled, and the weight of every image. Pruned, half of the images whose last loss was below the
    mean are left out and the other half count twice (InfoBatch, Qin et al., ICLR 2024: soft pruning, expectation rescaling)."""
    order = torch.randperm(len(losses), generator=generator)
    if not pruned:
        return order, torch.ones(len(losses))
    easy = losses < losses.mean()
    left_out = easy & (torch.rand(len(losses), generator=generator) < 0.5)
    return order[~left_out[order]], torch.where(easy, 2.0, 1.0)


def set_rate(optimizer, cycle, progress):
    """The 1cycle policy (Smith and Topin 2018): the rate rises over the first fifth of the cycle and falls over the rest,
    momentum goes the other way; both along half a cosine."""
    high, low = cycle["rate"], cycle["rate"] / 25
    if progress < 0.2:
        shares, rates, momenta = progress / 0.2, (low, high), (0.95, 0.85)
    else:
        shares, rates, momenta = (progress - 0.2) / 0.8, (high, low / 1e4), (0.85, 0.95)
    turned = (1 - math.cos(math.pi * shares)) / 2
    for group in optimizer.param_groups:
        group["lr"] = rates[0] + (rates[1] - rates[0]) * turned
        group["momentum"] = momenta[0] + (momenta[1] - momenta[0]) * turned


def image_losses(logits, targets, taught):
    """Cross-entropy with the targets; where they are taught, mostly the divergence from the teachers' softened answers, scaled
    back by the temperature squared (Hinton et al. 2015, section 2)."""
    logits = logits.float()
    losses = nn.functional.cross_entropy(logits, targets, reduction="none")
    if taught is None:
        return losses
    soft, aimed = ((l / TEMPERATURE).log_softmax(1) for l in (logits, taught))
    divergence = nn.functional.kl_div(soft, aimed, reduction="none", log_target=True).sum(1) * TEMPERATURE**2
    return (1 - TAUGHT_SHARE) * losses + TAUGHT_SHARE * divergence


def train_step(model, teachers, images, targets, weights, cycle, precision, optimizer):
    """Each image's loss, over all exits, before the step."""
    with computing_in(precision):
        exits = model(images)
        with torch.no_grad():
            answers = [teacher.trunk(images).float() for teacher in teachers]
    taught = torch.stack(answers).mean(0) if answers else None
    losses = [image_losses(logits, targets, taught) for logits in exits]
    loss = sum(w * l for w, l in zip(cycle["weights"], losses, strict=True))
    optimizer.zero_grad(set_to_none=True)
    (loss * weights).mean().backward()
    optimizer.step()
    return loss.detach()


class Progress:
    """What a checkpoint holds: the network, its averaged weights, the optimizer, the chance that augments, each image's last
    loss (zero before the first) and how many epochs are done."""

    def __init__(self, network, images, seed):
        torch.manual_seed(seed)
        self.generator = torch.Generator().manual_seed(seed)
        self.model = NETWORKS[network]().to(memory_format=torch.channels_last)
        self.average = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(AVERAGE_DECAY), use_buffers=True)
        self.optimizer = optimizer_of(self.model)
        self.losses, self.epoch = torch.zeros(images), 0

    def load(self, path):
        state = torch.load(path, weights_only=True)
        for part in ("model", "average", "optimizer"):
            getattr(self, part).load_state_dict(state[part])
        self.generator.set_state(state["generator"])
        torch.set_rng_state(state["torch"])
        self.losses, self.epoch = state["losses"], state["epoch"]

    def save(self, path):
        state = {part: getattr(self, part).state_dict() for part in ("model", "average", "optimizer")}
        chance = {"generator": self.generator.get_state(), "torch": torch.get_rng_state()}
        written = path.with_suffix(".part")
        torch.save({**state, **chance, "losses": self.losses, "epoch": self.epoch}, written)
        written.rename(path)


def kept(checkpoint, cycle):
    """Where the checkpoint as it was after this cycle is kept: others are taught by it."""
    return checkpoint.with_stem(f"{checkpoint.stem}-{cycle}")


def train_epoch(progress, cycle, number, precision, data, teachers):
    pixels, labels = data["train"]
    pruned = number in range(*cycle.get("pruned", (0, 0)))
    order, weights = images_of_epoch(progress.losses, pruned, progress.generator)
    steps = len(order) // BATCH
    batches = cifar10.augmented_batches(pixels, labels, order, BATCH, progress.generator, cycle)
    progress.model.train()
    for step, (images, targets, pick) in enumerate(batches):
        set_rate(progress.optimizer, cycle, (number + step / steps) / cycle["epochs"])
        progress.losses[pick] = train_step(
            progress.model, teachers, images, targets, weights[pick], cycle, precision, progress.optimizer
        )
        progress.average.update_parameters(progress.model)
    progress.epoch += 1


def train(network, data, checkpoint, seed):
    precision, cycles = RECIPE[network]["precision"], RECIPE[network]["cycles"]
    progress = Progress(network, len(data["train"][1]), seed)
    if checkpoint.exists():
        progress.load(checkpoint)
    epochs = [(at, cycle, number) for at, cycle in enumerate(cycles, 1) for number in range(cycle["epochs"])]
    for at, cycle, number in epochs[progress.epoch :]:
        started = time.monotonic()
        train_epoch(progress, cycle, number, precision, data, teachers_of(cycle, checkpoint.parent))
        shares = accuracy(progress.average.module, *data["validation"], precision)
        spent = time.monotonic() - started
        done = f"epoch {progress.epoch}/{len(epochs)}  loss {progress.losses.mean():.3f}"
        print(f"{done}  {shown(progress.model.exits, shares)}  {spent:.0f} s", flush=True)
        progress.save(checkpoint)
        if number + 1 == cycle["epochs"]:
            shutil.copyfile(checkpoint, kept(checkpoint, at))


def trained(name, checkpoints):
    """A trained network, as it is now (`vgg16`) or was after a cycle (`vgg16-1`): its averaged weights, ready for inference."""
    average = AveragedModel(NETWORKS[name.split("-")[0]]())
    average.load_state_dict(torch.load(checkpoints / f"{name}.pt", weights_only=True)["average"])
    return average.module.eval()


def teachers_of(cycle, checkpoints):
    teachers = cycle.get("teachers", ())
    for name in teachers:
        if not (checkpoints / f"{name}.pt").exists():
            network, cycles = name.split("-")
            sys.exit(f"the next cycle imitates {network} after its cycle {cycles}; train or restore that first, then go on here")
    return [trained(name, checkpoints).to(memory_format=torch.channels_last) for name in teachers]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", choices=NETWORKS)
    parser.add_argument("--data", required=True, help="folder with the official CIFAR-10 binary files")
    parser.add_argument("--checkpoints", type=pathlib.Path, default=CACHE)
    parser.add_argument("--seed", type=int, default=10)
    args = parser.parse_args()

    args.checkpoints.mkdir(parents=True, exist_ok=True)
    checkpoint = args.checkpoints / f"{args.network}.pt"
    train(args.network, cifar10.load(args.data), checkpoint, args.seed)
    print(f"done: {checkpoint}")


if __name__ == "__main__":
    main()
