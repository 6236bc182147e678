"""The bundled networks. Each takes pixels (float, 0-255, [n,3,32,32]) and returns the logits of its exits, first to last."""

from collections import OrderedDict

import torch
from torch import nn

MEAN = (125.3, 123.0, 113.9)
STD = (63.0, 62.1, 66.7)


class Normalize(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1))

    def forward(self, pixels):
        return (pixels - self.mean) / self.std


def linear_conv(inputs, outputs, kernel, stride=1):
    return nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
            bn=nn.BatchNorm2d(outputs),
        )
    )


def conv(inputs, outputs, kernel, stride=1):
    layers = linear_conv(inputs, outputs, kernel, stride)
    layers.add_module("relu", nn.ReLU())
    return layers


def branch(inputs, width, pool=1, stride=1, grid=4):
    """A side exit: one convolution, pooled to grid x grid, one linear layer."""
    layers = OrderedDict(conv=conv(inputs, width, 3, stride))
    if pool > 1:
        layers["pool"] = nn.MaxPool2d(pool)
    return nn.Sequential(OrderedDict(**layers, flatten=nn.Flatten(), fc=nn.Linear(width * grid**2, 10)))


def averaged(inputs):
    """A final exit: each channel's mean, one linear layer."""
    return nn.Sequential(OrderedDict(pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), fc=nn.Linear(inputs, 10)))


class AlexNet(nn.Module):
    """AlexNet for 32x32 in BranchyNet's manner: five convolutions, three linear layers, side exits after pool1 and pool2."""

    exits = ("exit1", "exit2", "final")

    def __init__(self):
        super().__init__()
        self.normalize = Normalize()
        self.conv1, self.pool1 = conv(3, 32, 5), nn.MaxPool2d(3, 2, 1)
        self.exit1 = branch(32, 64, 4)
        self.conv2, self.pool2 = conv(32, 64, 5), nn.MaxPool2d(3, 2, 1)
        self.exit2 = branch(64, 64, 2)
        self.conv3, self.conv4, self.conv5 = conv(64, 128, 3), conv(128, 128, 3), conv(128, 128, 3)
        self.pool5 = nn.MaxPool2d(3, 2, 1)
        self.classifier = nn.Sequential(
            OrderedDict(
                flatten=nn.Flatten(),
                drop6=nn.Dropout(0.3),
                fc6=nn.Linear(2048, 256),
                relu6=nn.ReLU(),
                drop7=nn.Dropout(0.3),
                fc7=nn.Linear(256, 128),
                relu7=nn.ReLU(),
                fc8=nn.Linear(128, 10),
            )
        )

    def forward(self, pixels):
        x = self.pool1(self.conv1(self.normalize(pixels)))
        first = self.exit1(x)
        x = self.pool2(self.conv2(x))
        second = self.exit2(x)
        x = self.pool5(self.conv5(self.conv4(self.conv3(x))))
        return first, second, self.classifier(x)

    def trunk(self, pixels):
        """The final exit alone, without the side exits' heads."""
        x = self.pool2(self.conv2(self.pool1(self.conv1(self.normalize(pixels)))))
        return self.classifier(self.pool5(self.conv5(self.conv4(self.conv3(x)))))


class Inception(nn.Module):
    """Four branches side by side, their channels concatenated; two widths are those of a 1x1 and of a larger convolution."""

    def __init__(self, inputs, width1x1, widths3x3, widths5x5, project):
        super().__init__()
        self.conv1x1 = conv(inputs, width1x1, 1)
        self.reduce3x3, self.conv3x3 = conv(inputs, widths3x3[0], 1), conv(*widths3x3, 3)
        self.reduce5x5, self.conv5x5 = conv(inputs, widths5x5[0], 1), conv(*widths5x5, 5)
        self.pool, self.project = nn.MaxPool2d(3, 1, 1), conv(inputs, project, 1)

    def forward(self, x):
        branches = (
            self.conv1x1(x),
            self.conv3x3(self.reduce3x3(x)),
            self.conv5x5(self.reduce5x5(x)),
            self.project(self.pool(x)),
        )
        return torch.cat(branches, 1)


class Trunk(nn.Module):
    """Layers one after another and the final exit `classifier`; behind each layer that `sides` names, a side exit."""

    def __init__(self, layers, sides, classifier):
        super().__init__()
        self.path = tuple(layers)
        self.sides = {layer: f"exit{number}" for number, layer in enumerate(sides, 1)}
        self.exits = (*self.sides.values(), "final")
        self.normalize = Normalize()
        for name, module in layers.items():
            self.add_module(name, module)
            if name in sides:
                self.add_module(self.sides[name], sides[name])
        self.classifier = classifier

    def forward(self, pixels):
        x, logits = self.normalize(pixels), []
        for name in self.path:
            x = getattr(self, name)(x)
            if name in self.sides:
                logits.append(getattr(self, self.sides[name])(x))
        return *logits, self.classifier(x)

    def trunk(self, pixels):
        """The final exit alone, without the side exits' heads."""
        x = self.normalize(pixels)
        for name in self.path:
            x = getattr(self, name)(x)
        return self.classifier(x)


class GoogLeNet(Trunk):
    """GoogLeNet for 32x32: seven narrower Inception modules in three sizes; side exits after inception3a and 4a."""

    def __init__(self):
        layers = {
            "conv1": conv(3, 32, 3),
            "conv2": conv(32, 32, 3),
            "pool2": nn.MaxPool2d(3, 2, 1),
            "inception3a": Inception(32, 32, (32, 64), (16, 16), 16),
            "inception3b": Inception(128, 48, (40, 80), (16, 16), 16),
            "pool3": nn.MaxPool2d(3, 2, 1),
            "inception4a": Inception(160, 96, (64, 128), (24, 48), 48),
            "inception4b": Inception(320, 96, (64, 128), (24, 48), 48),
            "inception4c": Inception(320, 96, (64, 128), (24, 48), 48),
            "pool4": nn.MaxPool2d(3, 2, 1),
            "inception5a": Inception(320, 128, (96, 192), (32, 64), 64),
            "inception5b": Inception(448, 128, (96, 192), (32, 64), 64),
        }
        sides = {"inception3a": branch(128, 48, 2, stride=2), "inception4a": branch(320, 64, stride=2)}
        super().__init__(layers, sides, averaged(448))


class Residual(nn.Module):
    """Two convolutions whose sum with the input, projected where the shape changes, passes a ReLU."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1, self.conv2 = conv(inputs, outputs, 3, stride), linear_conv(outputs, outputs, 3)
        self.shortcut = None if (inputs, stride) == (outputs, 1) else linear_conv(inputs, outputs, 1, stride)
        self.relu = nn.ReLU()
        nn.init.zeros_(self.conv2.bn.weight)  # Each block starts as the identity (Goyal et al. 2017).

    def forward(self, x):
        straight = x if self.shortcut is None else self.shortcut(x)
        return self.relu(self.conv2(self.conv1(x)) + straight)


def residual_stage(blocks, inputs, outputs, stride):
    layers = {"block1": Residual(inputs, outputs, stride)}
    for number in range(2, blocks + 1):
        layers[f"block{number}"] = Residual(outputs, outputs, 1)
    return nn.Sequential(OrderedDict(layers))


class ResNet56(Trunk):
    """The ResNet-56 of He et al. for CIFAR, with projection shortcuts; side exits after its first two stages."""

    def __init__(self):
        layers = {
            "conv1": conv(3, 16, 3),
            "stage1": residual_stage(9, 16, 16, 1),
            "stage2": residual_stage(9, 16, 32, 2),
            "stage3": residual_stage(9, 32, 64, 2),
        }
        first = OrderedDict(reduce=conv(16, 32, 3, stride=2), **dict(branch(32, 64, 2, stride=2).named_children()))
        super().__init__(layers, {"stage1": nn.Sequential(first), "stage2": branch(32, 64, 2, stride=2)}, averaged(64))


class VGG16(Trunk):
    """VGG-16 with batch norm for 32x32; side exits after the second, third and fourth block."""

    def __init__(self):
        layers, inputs = {}, 3
        for block, (convs, width) in enumerate(((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)), 1):
            for number in range(1, convs + 1):
                layers[f"conv{block}_{number}"] = conv(inputs, width, 3)
                inputs = width
            layers[f"pool{block}"] = nn.MaxPool2d(2)
        sides = {"pool2": branch(128, 64, 2), "pool3": branch(256, 64), "pool4": branch(512, 128, grid=2)}
        classifier = OrderedDict(
            flatten=nn.Flatten(),
            drop6=nn.Dropout(0.3),
            fc6=nn.Linear(512, 512),
            relu6=nn.ReLU(),
            drop7=nn.Dropout(0.3),
            fc7=nn.Linear(512, 10),
        )
        super().__init__(layers, sides, nn.Sequential(classifier))


NETWORKS = {"alexnet": AlexNet, "googlenet": GoogLeNet, "resnet56": ResNet56, "vgg16": VGG16}
