"""Writes a trained network as ONNX: pixels in, the logits of each exit out, weights kept in half precision.

    python models/train/export.py alexnet --data DIR --out models/alexnet.onnx

The weights of convolutions and linear layers are float16 initializers, each behind a Cast to float32, so that every
runtime computes in single precision. Batch norm is folded by the exporter. The test split is run through ONNX Runtime
with full and with half weights; the file appears only if half precision costs less than 0.1 point at every exit.
"""

import argparse
import hashlib
import io
import os
import pathlib
import sys
import warnings

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper

import cifar10
from networks import NETWORKS
from train import CACHE, trained

OPSET = 18
MAX_COST_POINTS = 0.1
# A scope that holds no other layers only lengthens the names of those inside it.
DROPPED_SCOPE = "/classifier/"


def shorten_names(nodes):
    names = {node.name for node in nodes}
    for node in nodes:
        module = node.name.removesuffix("/conv/Conv")
        if module != node.name and f"{module}/relu/Relu" not in names:
            node.name = f"{module}/Conv"  # Folding has left no other node in this module.
        node.name = node.name.replace(DROPPED_SCOPE, "/", 1)


def exported(model):
    """A network as an ONNX model with float32 weights and the modules' names on its nodes."""
    names = ["pixels", *model.exits]
    file = io.BytesIO()
    with warnings.catch_warnings():
        # The newer exporter flattens the modules' names away, and layers are known by them.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            model,
            (torch.zeros(1, 3, 32, 32),),
            file,
            input_names=names[:1],
            output_names=names[1:],
            dynamic_axes={name: {0: "n"} for name in names},
            opset_version=OPSET,
            dynamo=False,
        )
    proto = onnx.load_from_string(file.getvalue())
    shorten_names(proto.graph.node)
    return proto


def halved(full):
    """The same model with every weight of rank 2 or more stored as float16 behind a Cast; biases stay float32."""
    proto = onnx.ModelProto()
    proto.CopyFrom(full)
    weights = {node.input[1] for node in proto.graph.node if node.op_type in ("Conv", "Gemm")}
    casts = []
    for tensor in proto.graph.initializer:
        if tensor.name not in weights:
            continue
        half = numpy_helper.to_array(tensor).astype(np.float16)
        if not np.isfinite(half).all():
            sys.exit(f"weight {tensor.name} does not fit half precision: its largest value is beyond 65504")
        name, stored = tensor.name, f"{tensor.name}.half"
        tensor.CopyFrom(numpy_helper.from_array(half, stored))
        casts.append(helper.make_node("Cast", [stored], [name], name=f"{name}.cast", to=TensorProto.FLOAT))
    nodes = casts + list(proto.graph.node)
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    onnx.checker.check_model(proto, full_check=True)
    return proto


def accuracy(file, pixels, labels, exits):
    """Share right at each exit, by ONNX Runtime."""
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    right = np.zeros(len(exits))
    for at in range(0, len(labels), 500):
        logits = session.run(list(exits), {"pixels": pixels[at : at + 500].float().numpy()})
        right += [(l.argmax(1) == labels[at : at + 500].numpy()).sum() for l in logits]
    return right / len(labels)


def write_whole(path, file):
    part = path.with_name(path.name + ".part")
    try:
        part.write_bytes(file)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", choices=NETWORKS)
    parser.add_argument("--data", required=True, help="folder with the official CIFAR-10 binary files")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="the ONNX file to write")
    parser.add_argument("--checkpoints", type=pathlib.Path, default=CACHE, help="folder that train.py wrote to")
    args = parser.parse_args()

    checkpoint = args.checkpoints / f"{args.network}.pt"
    if not checkpoint.exists():
        sys.exit(f"no checkpoint {checkpoint}; run train.py {args.network} first")
    model = trained(args.network, args.checkpoints)
    proto, exits = exported(model), model.exits
    full, half = proto.SerializeToString(), halved(proto).SerializeToString()

    pixels, labels = cifar10.test(args.data)
    before, after = (100 * accuracy(file, pixels, labels, exits) for file in (full, half))
    for name, b, a in zip(exits, before, after, strict=True):
        print(f"{name:8} test accuracy {b:.2f} % full, {a:.2f} % half precision")
    if (before - after).max() >= MAX_COST_POINTS:
        sys.exit(f"half precision costs {(before - after).max():.2f} points, expected under {MAX_COST_POINTS}: not written")
    write_whole(args.out, half)
    print(f"{args.out}  {len(half)} bytes  sha256 {hashlib.sha256(half).hexdigest()}")


if __name__ == "__main__":
    main()
