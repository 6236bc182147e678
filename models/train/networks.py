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


def conv(inputs, outputs, kernel):
    return nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False),
            bn=nn.BatchNorm2d(outputs),
            relu=nn.ReLU(),
        )
    )


def branch(inputs, width, pool):
    """A side exit: one convolution, pooled to 4x4, one linear layer."""
    return nn.Sequential(
        OrderedDict(
            conv=conv(inputs, width, 3),
            pool=nn.MaxPool2d(pool),
            flatten=nn.Flatten(),
            fc=nn.Linear(width * 16, 10),
        )
    )


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


NETWORKS = {"alexnet": AlexNet}
