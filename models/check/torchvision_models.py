"""Exports torchvision's classifiers with random weights and compares coprof's answers with ONNX Runtime's.

    python models/check/torchvision_models.py                      # all models, both exporters
    python models/check/torchvision_models.py --models vit resnet18 --exporters old:17 new:20
    python models/check/torchvision_models.py --half               # the same with weights in half precision

`old:N` is `torch.onnx.export(dynamo=False)` at opset N, `new:N` the one with `dynamo=True`, which keeps weights in a file
of their own. Build coprof's side first: `cargo build --release --example logits`. A row for each file says how many layers
coprof made of it and the largest difference of a logit, relative to the largest logit. The exit code is 1 if any file fails
or is off by over 1e-3. Needs torch, torchvision, onnx, onnxruntime and onnxscript.
"""

import argparse
import contextlib
import io
import json
import logging
import pathlib
import subprocess
import sys
import tempfile
import warnings

import numpy as np
import onnx
import onnxruntime
import torch
import torchvision
from onnx import numpy_helper

ROOT = pathlib.Path(__file__).parents[2]
LOGITS = ROOT / "target/release/examples/logits"
SEED, PICTURES, TOLERANCE = 2021, 2, 1e-3

MODELS = {
    "alexnet": 224,
    "vgg11_bn": 224,
    "vgg16": 224,
    "resnet18": 64,
    "resnet50": 64,
    "googlenet": 64,
    "squeezenet1_1": 64,
    "densenet121": 64,
    "mobilenet_v2": 64,
    "mobilenet_v3_small": 64,
    "mobilenet_v3_large": 64,
    "efficientnet_b0": 64,
    "efficientnet_v2_s": 64,
    "shufflenet_v2_x1_0": 64,
    "regnet_y_400mf": 64,
    "regnet_x_400mf": 64,
    "convnext_tiny": 64,
    "vit_b_16": 224,
    "mnasnet1_0": 64,
    "resnext50_32x4d": 64,
    "inception_v3": 128,
    "swin_t": 224,
    "swin_v2_t": 256,
    "maxvit_t": 224,
}
EXPORTERS = ["old:11", "old:13", "old:17", "old:20", "new:18", "new:20"]


def made_up_pixels(shape):
    state, values = SEED, []
    for _ in range(int(np.prod(shape))):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        values.append(state >> 56)
    return np.array(values, np.float32).reshape(shape)


class FromPixels(torch.nn.Module):
    """Pixels from 0 to 255 in, as coprof gives them."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, pixels):
        return self.network((pixels - 127.5) / 64)


def network(name):
    torch.manual_seed(7)
    extra = {"aux_logits": False, "init_weights": True} if name in ("googlenet", "inception_v3") else {}
    model = torchvision.models.get_model(name, weights=None, **extra)
    for module in model.modules():
        # Fresh networks have trivial statistics and zeros where they matter; trained ones don't.
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.1, 0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.bias, -0.1, 0.1)
    for parameter_name, parameter in model.named_parameters():
        if parameter_name.endswith(("layer_scale", "class_token")) or parameter_name.startswith("heads"):
            torch.nn.init.normal_(parameter, std=0.5)
    return FromPixels(model).eval()


def export(model, side, exporter, path):
    kind, opset = exporter.split(":")
    picture = torch.zeros(1 if kind == "old" else 2, 3, side, side)
    names = {"input_names": ["pixels"], "output_names": ["logits"], "opset_version": int(opset)}
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        if kind == "old":
            axes = {"pixels": {0: "n"}, "logits": {0: "n"}}
            torch.onnx.export(model, (picture,), path, dynamo=False, dynamic_axes=axes, **names)
        else:
            shapes = ({0: torch.export.Dim("n")},)
            torch.onnx.export(model, (picture,), path, dynamo=True, dynamic_shapes=shapes, verbose=False, **names)


def halve(path):
    """Stores every weight as float16; returns a model with the rounded weights in float32 for ONNX Runtime."""
    model = onnx.load(path)
    rounded = onnx.ModelProto()
    rounded.CopyFrom(model)
    for tensor, full in zip(model.graph.initializer, rounded.graph.initializer, strict=True):
        if tensor.data_type == onnx.TensorProto.FLOAT:
            half = numpy_helper.to_array(tensor).astype(np.float16)
            tensor.CopyFrom(numpy_helper.from_array(half, tensor.name))
            full.CopyFrom(numpy_helper.from_array(half.astype(np.float32), full.name))
    onnx.save(model, path)
    reference = path.with_suffix(".full.onnx")
    onnx.save(rounded, reference)
    return reference


def expected(path, pictures):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return np.array([session.run(None, {"pixels": picture[None]})[0][0] for picture in pictures])


def found(path):
    run = subprocess.run([LOGITS, path], capture_output=True, text=True, check=True)
    return json.loads(run.stdout)


def check(model, side, exporter, half):
    """A row of the table, and whether all is well."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "model.onnx"
        try:
            export(model, side, exporter, path)
        except Exception as error:
            return f"not exported: {str(error).splitlines()[0][:80]}", True
        reference = halve(path) if half else path
        opset = next(i.version for i in onnx.load(path, load_external_data=False).opset_import if not i.domain)
        answer = found(path)
        if "error" in answer:
            return f"opset {opset}: {answer['error'][:300]}", False
        logits = expected(reference, made_up_pixels((PICTURES, 3, side, side)))
        off = np.abs(np.array(answer["exits"]["logits"]) - logits).max() / np.abs(logits).max()
        return f"opset {opset}, {answer['layers']} layers, off by {off:.1e}", off <= TOLERANCE


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--exporters", nargs="+", default=EXPORTERS, metavar="old:N|new:N")
    parser.add_argument("--half", action="store_true", help="keep the weights in half precision")
    args = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)

    well = True
    for name in args.models:
        model = network(name)
        for exporter in args.exporters:
            row, fine = check(model, MODELS[name], exporter, args.half)
            well &= fine
            print(f"{'ok  ' if fine else 'FAIL'} {name:20} {exporter:7} {row}", flush=True)
    sys.exit(0 if well else 1)


if __name__ == "__main__":
    main()
