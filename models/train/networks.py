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


def side(inputs, *widths):
    """A side exit: convolutions that each halve both sides, each channel's mean, one linear layer."""
    layers = OrderedDict()
    for number, width in enumerate(widths, 1):
        layers[f"conv{number}"] = conv(inputs, width, 3, stride=2)
        inputs = width
    return nn.Sequential(OrderedDict(**layers, **dict(averaged(inputs).named_children())))


def averaged(inputs):
    """A final exit: each channel's mean, one linear layer."""
    return nn.Sequential(OrderedDict(pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), fc=nn.Linear(inputs, 10)))


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


class AlexNet(Trunk):
    """AlexNet for 32x32 with batch norm, in BranchyNet's manner: five convolutions, three linear layers, side exits after
    pool1 and pool2."""

    def __init__(self):
        layers = {
            "conv1": conv(3, 48, 5),
            "pool1": nn.MaxPool2d(3, 2, 1),
            "conv2": conv(48, 64, 5),
            "pool2": nn.MaxPool2d(3, 2, 1),
            "conv3": conv(64, 160, 3),
            "conv4": conv(160, 160, 3),
            "conv5": conv(160, 128, 3),
            "pool5": nn.MaxPool2d(3, 2, 1),
        }
        classifier = OrderedDict(
            flatten=nn.Flatten(),
            fc6=nn.Linear(2048, 256),
            relu6=nn.ReLU(),
            fc7=nn.Linear(256, 128),
            relu7=nn.ReLU(),
            fc8=nn.Linear(128, 10),
        )
        super().__init__(layers, {"pool1": side(48, 64, 128), "pool2": side(64, 128)}, nn.Sequential(classifier))


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
        sides = {"inception3a": side(128, 64, 128), "inception4a": side(320, 128)}
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
        super().__init__(layers, {"stage1": side(16, 32, 64, 128), "stage2": side(32, 64, 128)}, averaged(64))


class VGG16(Trunk):
    """VGG-16 with batch norm for 32x32; side exits after the second, third and fourth block."""

    def __init__(self):
        layers, inputs = {}, 3
        for block, (convs, width) in enumerate(((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)), 1):
            for number in range(1, convs + 1):
                layers[f"conv{block}_{number}"] = conv(inputs, width, 3)
                inputs = width
            layers[f"pool{block}"] = nn.MaxPool2d(2)
        sides = {"pool2": side(128, 128, 128), "pool3": side(256, 192), "pool4": side(512, 128)}
        classifier = OrderedDict(
            flatten=nn.Flatten(), fc6=nn.Linear(512, 512), relu6=nn.ReLU(), fc7=nn.Linear(512, 10)
        )
        super().__init__(layers, sides, nn.Sequential(classifier))


# Of an MSDNet: its layers, and the channels that each adds to the scales, fine to coarse.
LAYERS, GROWTHS = 16, (8, 16, 32)


class MultiScale(nn.Module):
    """A layer of an MSDNet: to the features of each scale, fine to coarse, it adds some made of them and some made of the next
    finer ones. `widths` are the channels of each scale that reaches it; those before `finest` are read a last time."""

    def __init__(self, widths, finest):
        super().__init__()
        self.scales = range(finest, len(GROWTHS))
        for scale in self.scales:
            finer = scale - 1 in widths
            grown = GROWTHS[scale] // 2 if finer else GROWTHS[scale]
            self.add_module(f"same{scale}", self._made(widths[scale], grown, 1))
            if finer:
                self.add_module(f"down{scale}", self._made(widths[scale - 1], grown, 2))

    @staticmethod
    def _made(inputs, outputs, stride):
        narrow = min(inputs, 4 * outputs)
        return nn.Sequential(OrderedDict(reduce=conv(inputs, narrow, 1), grow=conv(narrow, outputs, 3, stride)))

    def forward(self, features):
        grown = {}
        for scale in self.scales:
            parts = [features[scale], getattr(self, f"same{scale}")(features[scale])]
            if scale - 1 in features:
                parts.append(getattr(self, f"down{scale}")(features[scale - 1]))
            grown[scale] = torch.cat(parts, 1)
        return grown


class MSDNet(nn.Module):
    """The multi-scale dense network of Huang et al. (ICLR 2018) for CIFAR, with seven exits on its coarsest scale: after the
    fourth layer and then after every other one. The finest scale ends after the fourth layer, the next after the eighth (its
    section 4, network reduction); layers have no transitions between them."""

    exits = (*(f"exit{number}" for number in range(1, 7)), "final")
    exit_after = dict(zip(range(4, LAYERS + 1, 2), exits, strict=True))

    def __init__(self):
        super().__init__()
        self.normalize = Normalize()
        widths, inputs = {0: 24, 1: 48, 2: 64}, 3
        for scale, width in widths.items():
            self.add_module(f"scale{scale}", conv(inputs, width, 3, 2 if scale else 1))
            inputs = width
        for number in range(1, LAYERS + 1):
            finest = (number > 4) + (number > 8)
            self.add_module(f"layer{number}", MultiScale(widths, finest))
            widths = {scale: width + GROWTHS[scale] for scale, width in widths.items() if scale >= finest}
            if number in self.exit_after:
                self.add_module(self.exit_after[number], self._side(widths[2]))

    @staticmethod
    def _side(inputs):
        return nn.Sequential(OrderedDict(reduce=conv(inputs, 64, 1), **dict(side(64, 128).named_children())))

    def coarsest(self, pixels):
        """The features of the coarsest scale after each layer, by its number."""
        features, x = {}, self.normalize(pixels)
        for scale in range(len(GROWTHS)):
            x = features[scale] = getattr(self, f"scale{scale}")(x)
        for number in range(1, LAYERS + 1):
            features = getattr(self, f"layer{number}")(features)
            yield number, features[2]

    def forward(self, pixels):
        reached = ((self.exit_after.get(number), features) for number, features in self.coarsest(pixels))
        return tuple(getattr(self, exit)(features) for exit, features in reached if exit)

    def trunk(self, pixels):
        """The final exit alone, without the side exits' heads."""
        *_, (_, features) = self.coarsest(pixels)
        return self.final(features)


class ResNet18(Trunk):
    """The ResNet-18 of He et al. for 32x32, of full width: what the bundled networks are taught by."""

    def __init__(self):
        layers = {"conv1": conv(3, 64, 3), "stage1": residual_stage(2, 64, 64, 1)}
        for number, width in enumerate((128, 256, 512), 2):
            layers[f"stage{number}"] = residual_stage(2, width // 2, width, 2)
        super().__init__(layers, {}, averaged(512))


NETWORKS = {
    "alexnet": AlexNet,
    "googlenet": GoogLeNet,
    "msdnet": MSDNet,
    "resnet18": ResNet18,
    "resnet56": ResNet56,
    "vgg16": VGG16,
}
