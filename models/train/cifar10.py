"""CIFAR-10 from the official binary layout, split as every coprof record is split.

The last 5,000 of the 50,000 training images are the validation split: they are never trained on.
"""

import pathlib

import numpy as np
import torch
from torch import nn

VALIDATION_IMAGES = 5_000
RECORD_BYTES = 1 + 3 * 32 * 32


def _read(files):
    raw = np.concatenate([np.fromfile(f, dtype=np.uint8) for f in files]).reshape(-1, RECORD_BYTES)
    labels = torch.from_numpy(raw[:, 0].astype(np.int64))
    pixels = torch.from_numpy(raw[:, 1:].reshape(-1, 3, 32, 32).copy())
    return pixels, labels


def load(folder):
    """{"train" | "validation" | "test": (pixels uint8 [n,3,32,32], labels int64 [n])}"""
    folder = pathlib.Path(folder)
    if (folder / "cifar-10-batches-bin").is_dir():
        folder = folder / "cifar-10-batches-bin"
    pixels, labels = _read([folder / f"data_batch_{i}.bin" for i in range(1, 6)])
    cut = len(labels) - VALIDATION_IMAGES
    return {
        "train": (pixels[:cut], labels[:cut]),
        "validation": (pixels[cut:], labels[cut:]),
        "test": _read([folder / "test_batch.bin"]),
    }


MEAN_PIXEL = (125.3, 123.0, 113.9)


def hide_squares(images, side, generator):
    """Paints a square of each image, somewhere on it, in the mean colour (Cutout, DeVries and Taylor 2017)."""
    centre = torch.randint(0, 32, (len(images), 2), generator=generator)
    near = (torch.arange(32) - centre[:, :, None]).abs() * 2 < side
    square = near[:, 0, :, None] & near[:, 1, None, :]
    return torch.where(square[:, None], torch.tensor(MEAN_PIXEL).view(1, 3, 1, 1), images)


def uniform(n, low, high, generator):
    return low + (high - low) * torch.rand(n, generator=generator)


def warped(images, generator):
    """Turns each image by up to 15 degrees, scales it by up to 15 %, and changes its contrast, saturation and brightness."""
    n = len(images)
    angle, scale = uniform(n, -0.26, 0.26, generator), uniform(n, 0.85, 1.15, generator)
    cosine, sine, none = torch.cos(angle) * scale, torch.sin(angle) * scale, torch.zeros(n)
    matrices = torch.stack([cosine, -sine, none, sine, cosine, none], 1).view(n, 2, 3)
    grid = nn.functional.affine_grid(matrices, images.shape, align_corners=False)
    images = nn.functional.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
    contrast, saturation = (uniform(n, 0.7, 1.3, generator).view(n, 1, 1, 1) for _ in range(2))
    brightness = uniform(n, -30, 30, generator).view(n, 1, 1, 1)
    grey = images.mean(1, keepdim=True)
    images = grey + (images - grey) * saturation
    level = grey.mean((2, 3), keepdim=True)
    return (level + (images - level) * contrast + brightness).clamp(0, 255)


def cut_mixed(images, targets, generator):
    """Pastes into each image a box of another one, whose size is drawn evenly, and mixes their targets by area (CutMix, Yun
    et al., ICCV 2019, algorithm A1)."""
    n = len(images)
    others = torch.randperm(n, generator=generator)
    half = 16 * torch.rand(n, 1, generator=generator).sqrt()
    centre = torch.randint(0, 32, (n, 2), generator=generator)
    near = (torch.arange(32) - centre[:, :, None]).abs() < half[:, :, None]
    box = near[:, 0, :, None] & near[:, 1, None, :]
    share = box.float().mean((1, 2))[:, None]
    return torch.where(box[:, None], images[others], images), targets * (1 - share) + targets[others] * share


def augmented_batches(pixels, labels, order, batch, generator, cycle):
    """Float batches, what is aimed at in them (shares of the ten classes) and the indices of their images, in this order.
    Each image is shifted by up to 4 pixels, mirrored by chance, and loses a square of side `hidden`; every other one is warped
    where the cycle `warps` and gets a box of another where it `mixes`."""
    for at in range(0, len(order) - batch + 1, batch):
        pick = order[at : at + batch]
        images = nn.functional.pad(pixels[pick].float(), (4, 4, 4, 4), mode="reflect")
        shift = torch.randint(0, 9, (batch, 2), generator=generator)
        rows = shift[:, :1] + torch.arange(32)
        columns = shift[:, 1:] + torch.arange(32)
        mirrored = torch.rand(batch, generator=generator) < 0.5
        columns[mirrored] = columns[mirrored].flip(1)
        index = torch.arange(batch)
        images = images[index[:, None, None], :, rows[:, :, None], columns[:, None, :]]
        images = images.permute(0, 3, 1, 2)
        targets = nn.functional.one_hot(labels[pick], 10).float()
        if cycle.get("warps"):
            images[::2] = warped(images[::2], generator)
        if "hidden" in cycle:
            images = hide_squares(images, cycle["hidden"], generator)
        if cycle.get("mixes"):
            images[::2], targets[::2] = cut_mixed(images[::2], targets[::2], generator)
        yield images.contiguous(memory_format=torch.channels_last), targets, pick
