"""Trains a bundled network with all its exits jointly (BranchyNet, ICPR 2016, section III-B) and keeps checkpoints.

    python models/train/train.py alexnet --data DIR      resumes where it stopped; `export.py` writes the ONNX file
"""

import argparse
import os
import pathlib
import time

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import cifar10
from networks import NETWORKS

CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "coprof" / "train"
# A cycle's weights are those of the exits' losses. With bfloat16 the layers compute at half width (autocast); parameters,
# losses and the optimizer stay single. `hidden` is the side of the square that each training image loses (Cutout).
RECIPE = {
    # The second cycle anneals once more from a lower rate, leans towards the final exit, and averages the weights.
    "alexnet": {
        "batch": 128,
        "decay": 5e-4,
        "precision": torch.float32,
        "cycles": (
            {"epochs": 20, "rate": 0.08, "weights": (0.4, 0.4, 1.0)},
            {"epochs": 10, "rate": 0.04, "weights": (0.2, 0.3, 1.0)},
        ),
    },
    "googlenet": {
        "batch": 128,
        "decay": 5e-4,
        "precision": torch.bfloat16,
        "hidden": 12,
        "cycles": ({"epochs": 50, "rate": 0.15, "weights": (0.2, 0.2, 1.0)},),
    },
    "resnet56": {
        "batch": 128,
        "decay": 5e-4,
        "precision": torch.bfloat16,
        "hidden": 12,
        "cycles": ({"epochs": 70, "rate": 0.15, "weights": (0.15, 0.25, 1.0)},),
    },
    "vgg16": {
        "batch": 128,
        "decay": 5e-4,
        "precision": torch.bfloat16,
        "hidden": 12,
        "cycles": ({"epochs": 30, "rate": 0.08, "weights": (0.15, 0.15, 0.15, 1.0)},),
    },
}
AVERAGE_DECAY = 0.998


def computing_in(precision):
    return torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16)


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


def optimizer_of(model, recipe):
    decayed = [p for p in model.parameters() if p.dim() > 1]
    others = [p for p in model.parameters() if p.dim() <= 1]
    return torch.optim.SGD(
        [{"params": decayed, "weight_decay": recipe["decay"]}, {"params": others, "weight_decay": 0.0}],
        lr=recipe["cycles"][0]["rate"],
        momentum=0.9,
        nesterov=True,
    )


def train_epoch(model, average, batches, cycle, precision, optimizer, schedule):
    model.train()
    total, count = 0.0, 0
    for images, labels in batches:
        with computing_in(precision):
            exits = model(images)
        losses = [nn.functional.cross_entropy(logits.float(), labels) for logits in exits]
        loss = sum(w * l for w, l in zip(cycle["weights"], losses, strict=True))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        average.update_parameters(model)
        total, count = total + loss.item(), count + 1
    return total / count


def save(path, state):
    part = path.with_suffix(".part")
    torch.save(state, part)
    part.rename(path)


def train(network, recipe, data, checkpoint, seed):
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    model = NETWORKS[network]().to(memory_format=torch.channels_last)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(AVERAGE_DECAY), use_buffers=True)
    optimizer = optimizer_of(model, recipe)
    state = torch.load(checkpoint, weights_only=True) if checkpoint.exists() else {"epoch": 0}
    if state["epoch"]:
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        generator.set_state(state["generator"])
        torch.set_rng_state(state["torch"])
    first, epochs = 0, sum(cycle["epochs"] for cycle in recipe["cycles"])
    for cycle in recipe["cycles"]:
        last = first + cycle["epochs"]
        if state["epoch"] < last:
            steps = len(data["train"][1]) // recipe["batch"]
            schedule = torch.optim.lr_scheduler.OneCycleLR(
                optimizer, cycle["rate"], epochs=cycle["epochs"], steps_per_epoch=steps, pct_start=0.2
            )
            if state["epoch"] > first:
                schedule.load_state_dict(state["schedule"])
                optimizer.load_state_dict(state["optimizer"])  # A new schedule has set its first rate.
        for epoch in range(max(first, state["epoch"]), last):
            started = time.monotonic()
            batches = cifar10.augmented_batches(*data["train"], recipe["batch"], generator, recipe.get("hidden", 0))
            loss = train_epoch(model, average, batches, cycle, recipe["precision"], optimizer, schedule)
            shares = accuracy(average.module, *data["validation"], recipe["precision"])
            shares = "  ".join(f"{name} {100 * share:.2f} %" for name, share in zip(model.exits, shares))
            print(f"epoch {epoch + 1}/{epochs}  loss {loss:.3f}  {shares}  {time.monotonic() - started:.0f} s", flush=True)
            save(
                checkpoint,
                {
                    "model": model.state_dict(),
                    "average": average.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "schedule": schedule.state_dict(),
                    "generator": generator.get_state(),
                    "torch": torch.get_rng_state(),
                    "epoch": epoch + 1,
                },
            )
        first = last


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", choices=NETWORKS)
    parser.add_argument("--data", required=True, help="folder with the official CIFAR-10 binary files")
    parser.add_argument("--checkpoints", type=pathlib.Path, default=CACHE)
    parser.add_argument("--seed", type=int, default=10)
    args = parser.parse_args()

    args.checkpoints.mkdir(parents=True, exist_ok=True)
    checkpoint = args.checkpoints / f"{args.network}.pt"
    train(args.network, RECIPE[args.network], cifar10.load(args.data), checkpoint, args.seed)
    print(f"done: {checkpoint}")


def trained(network, checkpoints):
    """The trained network: its averaged weights, ready for inference."""
    average = AveragedModel(NETWORKS[network]())
    average.load_state_dict(torch.load(checkpoints / f"{network}.pt", weights_only=True)["average"])
    return average.module.eval()


if __name__ == "__main__":
    main()
