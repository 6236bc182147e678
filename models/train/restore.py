"""Makes a checkpoint of an exported network, so that training goes on from it where the checkpoints are gone.

    python models/train/restore.py googlenet-1 models/googlenet.onnx --data DIR     googlenet after the first cycle

Export folds each batch norm into the convolution before it. Here every filter gets the length of a new one again, and its
batch norm the statistics of training images and what then makes the outputs the same. The optimizer starts afresh.
"""

import argparse
import pathlib
import sys

import onnx
import torch
from google.protobuf.message import DecodeError
from onnx import numpy_helper
from torch import nn

import cifar10
from networks import NETWORKS
from train import CACHE, RECIPE, Progress, accuracy, kept, shown

IMAGES = 2_000


def exported_weights(path):
    """The weight and the bias of each convolution and linear layer, in the order of computation."""
    graph = onnx.load(path).graph
    stored = {tensor.name: torch.tensor(numpy_helper.to_array(tensor)).float() for tensor in graph.initializer}
    stored |= {node.output[0]: stored[node.input[0]] for node in graph.node if node.op_type == "Cast"}
    return [[stored[name] for name in node.input[1:3]] for node in graph.node if node.op_type in ("Conv", "Gemm")]


def fill(model, weights, images):
    """Fills each layer when the images reach it: by then all layers before it are filled."""
    weights = iter(weights)
    folded = []

    def fill_linear(layer, _):
        weight, bias = next(weights)
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)

    def fill_conv(layer, _):
        weight, bias = next(weights)
        lengths = [w.flatten(1).norm(dim=1) for w in (layer.weight, weight)]
        scale = lengths[0].mean() / lengths[1].clamp(min=1e-6)
        layer.weight.copy_(weight * scale.view(-1, 1, 1, 1))
        folded.append((scale, bias))

    def fill_norm(layer, inputs):
        scale, bias = folded.pop()
        variance, mean = torch.var_mean(inputs[0], (0, 2, 3), correction=0)
        layer.running_var.copy_(variance)
        layer.running_mean.copy_(mean)
        layer.weight.copy_((variance + layer.eps).sqrt() / scale)
        layer.bias.copy_(bias + mean / scale)

    fillers = {nn.Linear: fill_linear, nn.Conv2d: fill_conv, nn.BatchNorm2d: fill_norm}
    layers = [layer for layer in model.modules() if type(layer) in fillers]
    hooks = [layer.register_forward_pre_hook(fillers[type(layer)]) for layer in layers]
    with torch.no_grad():
        model.eval()(images)
    for hook in hooks:
        hook.remove()
    if next(weights, None) is not None:
        raise ValueError("more layers than the network has")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="the network and the cycle after which it was exported, as in googlenet-1")
    parser.add_argument("exported", type=pathlib.Path, help="the ONNX file")
    parser.add_argument("--data", required=True, help="folder with the official CIFAR-10 binary files")
    parser.add_argument("--checkpoints", type=pathlib.Path, default=CACHE, help="folder that train.py goes on from")
    parser.add_argument("--seed", type=int, default=11)
    args = parser.parse_args()

    network, _, cycle = args.name.partition("-")
    cycles = RECIPE.get(network, {}).get("cycles", ())
    if cycle not in map(str, range(1, len(cycles) + 1)):
        sys.exit(f"{args.name} is no network after a cycle of its recipe, as googlenet-1 is")
    checkpoint = args.checkpoints / f"{network}.pt"
    if checkpoint.exists():
        sys.exit(f"{checkpoint} is there, and train.py goes on from it; move it away first")
    data = cifar10.load(args.data)
    progress = Progress(network, len(data["train"][1]), args.seed)
    try:
        fill(progress.model, exported_weights(args.exported), data["train"][0][:IMAGES].float())
    except (DecodeError, KeyError, OSError, RuntimeError, StopIteration, ValueError) as error:
        sys.exit(f"{args.exported} is not {network} as export.py writes it: {error!r}")
    progress.average.module.load_state_dict(progress.model.state_dict())
    progress.epoch = sum(done["epochs"] for done in cycles[: int(cycle)])
    shares = accuracy(progress.average.module, *data["validation"], torch.float32)
    print("validation accuracy", shown(progress.model.exits, shares))
    args.checkpoints.mkdir(parents=True, exist_ok=True)
    for path in (checkpoint, kept(checkpoint, cycle)):
        progress.save(path)
        print(path)


if __name__ == "__main__":
    main()
