"""CIFAR-10 from the official binary layout, split as every coprof record is split, and the chance that varies its images.

The last 5,000 of the 50,000 training images are the validation split: they are never trained on.
"""

import pathlib

import numpy as np
import torch
from torch import nn

VALIDATION_IMAGES = 5_000
RECORD_BYTES = 1 + 3 * 32 * 32
SHIFT = 4


def _read(files):
    raw = np.concatenate([np.fromfile(f, dtype=np.uint8) for f in files]).reshape(-1, RECORD_BYTES)
    labels = torch.from_numpy(raw[:, 0].astype(np.int64))
    pixels = torch.from_numpy(raw[:, 1:].reshape(-1, 3, 32, 32).copy())
    return pixels, labels


def _folder(folder):
    inner = pathlib.Path(folder) / "cifar-10-batches-bin"
    return inner if inner.is_dir() else pathlib.Path(folder)


def training(folder):
    """The training images and the validation images: each pixels uint8 [n,3,32,32] and labels int64 [n]."""
    pixels, labels = _read([_folder(folder) / f"data_batch_{i}.bin" for i in range(1, 6)])
    cut = len(labels) - VALIDATION_IMAGES
    return (pixels[:cut], labels[:cut]), (pixels[cut:], labels[cut:])


def test(folder):
    return _read([_folder(folder) / "test_batch.bin"])


class Images:
    """Training images on a device, with edges to shift them by, and their labels."""

    def __init__(self, pixels, labels, device):
        edged = nn.functional.pad(pixels.float(), (SHIFT,) * 4, mode="reflect").to(torch.uint8)
        self.edged = edged.permute(0, 2, 3, 1).contiguous().to(device)
        self.labels = nn.functional.one_hot(labels, 10).float().to(device)

    def __len__(self):
        return len(self.labels)


class Chance:
    """An epoch's order of the images, and how each is varied: shifted by up to 4 pixels; mirrored in every other epoch, first
    in the one that chance says (airbench, Jordan 2024, section 3.6); and, by the probability `mixing`, with a box of another
    pasted in, whose size is drawn evenly (CutMix, Yun et al., ICCV 2019, algorithm A1). All of it is drawn before the epoch, so
    that its steps are the same operations on other numbers; a step is known by a one-element tensor on the device."""

    def __init__(self, images, batch, mixing, generator):
        self.images, self.batch, self.mixing, self.generator = images, batch, mixing, generator
        self.steps = len(images) // batch
        self.mirrored_first = self._uniform(len(images)) < 0.5
        self.drawn = self._draw(0)

    def _uniform(self, *shape):
        return torch.rand(*shape, generator=self.generator, device=self.generator.device)

    def _draw(self, epoch):
        shape = (self.steps, self.batch)
        order = torch.randperm(len(self.images), generator=self.generator, device=self.generator.device)
        pick = order[: self.steps * self.batch].view(shape)
        return {
            "pick": pick,
            "shift": (self._uniform(*shape, 2) * (2 * SHIFT + 1)).long(),
            "mirrored": self.mirrored_first[pick] ^ bool(epoch % 2),
            "other": self._uniform(*shape).argsort(1),
            "centre": (self._uniform(*shape, 2) * 32).long(),
            "half": 16 * self._uniform(*shape).sqrt() * (self._uniform(*shape) < self.mixing),
        }

    def draw(self, epoch):
        for name, drawn in self._draw(epoch).items():
            self.drawn[name].copy_(drawn)

    def varied(self, step):
        """The step's images, float [batch,3,32,32] with the channels last, and what is aimed at: shares of the ten classes."""
        pick, shift, mirrored, other, centre, half = (drawn.index_select(0, step)[0] for drawn in self.drawn.values())
        along = torch.arange(32, device=step.device)
        rows, columns = shift[:, :1] + along, shift[:, 1:] + torch.where(mirrored[:, None], 31 - along, along)
        images = self.images.edged[pick[:, None, None], rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).float()
        near = (along - centre[:, :, None]).abs() < half[:, None, None]
        box = near[:, 0, :, None] & near[:, 1, None, :]
        share = box.float().mean((1, 2))[:, None]
        targets = self.images.labels[pick]
        images = torch.where(box[:, None], images[other], images)
        return images.contiguous(memory_format=torch.channels_last), targets * (1 - share) + targets[other] * share
