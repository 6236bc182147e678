"""Writes the small ONNX files of tests/data/onnx/, one for each family of ops, and what ONNX Runtime answers to them.

    python models/check/small_models.py [NAME ...]

All of them, or those that are named: what PyTorch exports differs from version to version. The files go through `cargo test`: coprof must read each of them and answer as ONNX Runtime does. `references.json` has the
same parts for each file as `models/alexnet.reference.json`, of two pictures; `models/train/reference.py` describes both.
Needs numpy, onnx and onnxruntime, and for the networks that PyTorch exports also torch, torchvision and onnxscript.
"""

import contextlib
import io
import json
import pathlib
import sys
import tempfile
import warnings

import numpy as np
import onnx
import torch
import torchvision
from onnx import TensorProto, helper, numpy_helper

ROOT = pathlib.Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "models/train"))
from reference import reference  # noqa: E402

OUT = ROOT / "tests/data/onnx"
NETWORKS = {}


class Net:
    """A graph in the making: pixels [n, 3, 8, 8], made small, come first."""

    def __init__(self, opset):
        self.opset, self.nodes, self.constants = opset, [], []
        self.inputs = {"pixels": [3, 8, 8]}
        self.random = np.random.default_rng(3)
        # Before opset 7 constants are not broadcast unasked.
        self.broadcast = {"broadcast": 1} if opset < 7 else {}
        self.x = self.op("Mul", "pixels", self.constant(np.float32(1 / 64)), **self.broadcast)
        self.x = self.op("Sub", self.x, self.constant(np.float32([[[2]], [[1.9]], [[2.1]]])), **self.broadcast)

    def constant(self, value):
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def ints(self, *values):
        return self.constant(np.array(values, np.int64))

    def weights(self, *shape):
        return self.constant(self.random.uniform(-0.5, 0.5, shape).astype(np.float32))

    def op(self, op, *inputs, outputs=1, **attributes):
        names = [f"t{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(op, inputs, names, name=f"/{op}_{len(self.nodes)}", **attributes))
        return names[0] if outputs == 1 else names

    def conv(self, x, inputs, outputs, side=3, **attributes):
        groups = attributes.get("group", 1)
        return self.op("Conv", x, self.weights(outputs, inputs // groups, side, side), **attributes)

    def pooled(self, x):
        """[n, channels, h, w] as [n, channels]."""
        return self.op("Flatten", self.op("GlobalAveragePool", x), axis=1)

    def model(self, *vectors):
        """The model that answers with these vectors, one behind the other."""
        return self.results(final=(self.op("Concat", *vectors, axis=1), ["classes"]))

    def results(self, **tensors):
        """The model that answers with these tensors, each with the sides of one sample, by name."""
        names = {tensor: name for name, (tensor, _) in tensors.items()}
        for node in self.nodes:
            node.input[:] = [names.get(name, name) for name in node.input]
            node.output[:] = [names.get(name, name) for name in node.output]
        graph = helper.make_graph(
            self.nodes,
            "small",
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", *sides]) for name, sides in self.inputs.items()],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", *sides]) for name, (_, sides) in tensors.items()],
            self.constants,
        )
        ir_version = 8 if self.opset < 20 else 9
        domains = {node.domain for node in self.nodes}
        imports = [helper.make_opsetid(domain, 1 if domain else self.opset) for domain in sorted(domains)]
        model = helper.make_model(graph, opset_imports=imports, ir_version=ir_version)
        onnx.checker.check_model(model, full_check=self.opset >= 7)
        return model


def network(*opsets):
    def register(build):
        for opset in opsets:
            NETWORKS[f"{build.__name__}_{opset}"] = lambda opset=opset: build(Net(opset))
        return build

    return register


@network(11, 17)
def convolutions(net):
    same = net.conv(net.x, 3, 4, auto_pad="SAME_UPPER", strides=[2, 2])
    uneven = net.conv(net.x, 3, 4, pads=[0, 1, 2, 0])
    dilated = net.conv(net.x, 3, 4, dilations=[2, 2], pads=[2, 2, 2, 2])
    padded = net.op("Pad", net.x, net.ints(0, 0, 1, 0, 0, 0, 0, 2))
    padded = net.pooled(net.conv(padded, 3, 2, pads=[0, 1, 0, 1]))
    depthwise = net.conv(net.x, 3, 6, group=3, pads=[1, 1, 1, 1])
    bias = net.op("Conv", same, net.weights(4, 4, 1, 1), net.weights(4))
    scale = [net.weights(4), net.weights(4), net.weights(4), net.constant(np.float32([1, 2, 0.5, 3]))]
    normal = net.op("BatchNormalization", uneven, *scale, epsilon=1e-3)
    gemm = net.op("Gemm", net.pooled(depthwise), net.weights(5, 6), net.weights(5), transB=1, alpha=0.5)
    product = net.op("MatMul", net.pooled(dilated), net.weights(4, 3))
    product = net.op("Add", product, net.weights(3))
    return net.model(net.pooled(bias), net.pooled(normal), padded, gemm, product)


@network(11, 20)
def activations(net):
    ops = [
        ("Relu", {}), ("LeakyRelu", {"alpha": 0.2}), ("Elu", {"alpha": 0.7}), ("Selu", {}), ("Sigmoid", {}),
        ("HardSigmoid", {"alpha": 0.3, "beta": 0.4}), ("Softplus", {}), ("Tanh", {}), ("Erf", {}), ("Exp", {}),
        ("Abs", {}), ("Neg", {}),
    ]  # fmt: skip
    if net.opset >= 20:
        ops += [("HardSwish", {}), ("Mish", {}), ("Gelu", {}), ("Gelu", {"approximate": "tanh"})]
    parts = [net.pooled(net.op(op, net.conv(net.x, 3, 2), **attributes)) for op, attributes in ops]
    x = net.conv(net.x, 3, 2)
    number = lambda value: net.constant(np.float32(value))  # noqa: E731
    parts += [
        net.pooled(net.op("Clip", x, number(0), number(6))),
        net.pooled(net.op("Clip", x, "", number(0.5))),
        net.pooled(net.op("Max", x, number(0))),
        net.pooled(net.op("Min", x, number(0.1))),
        net.pooled(net.op("PRelu", x, net.weights(2, 1, 1))),
        net.pooled(net.op("Sqrt", net.op("Exp", x))),
        net.pooled(net.op("Reciprocal", net.op("Exp", x))),
        net.pooled(net.op("Div", number(2), net.op("Exp", x))),
        net.pooled(net.op("Sub", number(2), x)),
        net.pooled(net.op("Pow", net.op("Abs", x), number(1.5))),
        net.pooled(net.op("Log", net.op("Add", net.op("Abs", x), number(0.5)))),
    ]
    return net.model(*parts)


@network(11, 13)
def written_out(net):
    """Functions that exporters write in several nodes."""
    number = lambda value: net.constant(np.float32(value))  # noqa: E731
    x = net.conv(net.x, 3, 2)
    erf = net.op("Erf", net.op("Div", x, number(np.sqrt(2))))
    gelu = net.op("Mul", net.op("Mul", x, net.op("Add", erf, number(1))), number(0.5))
    y = net.conv(net.x, 3, 2)
    erf = net.op("Erf", net.op("Mul", y, number(np.sqrt(0.5))))
    gelu_half_first = net.op("Mul", net.op("Mul", y, number(0.5)), net.op("Add", number(1), erf))
    y = net.conv(net.x, 3, 2)
    erf = net.op("Add", net.op("Erf", net.op("Mul", y, number(np.sqrt(0.5)))), number(1))
    gelu_half_last = net.op("Mul", y, net.op("Mul", number(0.5), erf))
    y = net.conv(net.x, 3, 2)
    silu = net.op("Mul", y, net.op("Sigmoid", y))
    y = net.conv(net.x, 3, 2)
    gate = net.op("Clip", net.op("Add", y, number(3)), number(0), number(6))
    hard_swish = net.op("Div", net.op("Mul", y, gate), number(6))
    y = net.conv(net.x, 3, 2)
    gate = net.op("Clip", net.op("Add", y, number(3)), number(0), number(6))
    hard_swish_gated = net.op("Mul", net.op("Mul", gate, number(1 / 6)), y)
    y = net.conv(net.x, 3, 2)
    hard_sigmoid = net.op("Mul", net.op("HardSigmoid", y, alpha=1 / 6, beta=0.5), y)
    y = net.conv(net.x, 3, 2)
    mish = net.op("Mul", y, net.op("Tanh", net.op("Softplus", y)))
    # What looks alike and is not.
    y = net.conv(net.x, 3, 2)
    other = net.op("Mul", y, net.op("Sigmoid", x))
    all_of_them = [gelu, gelu_half_first, gelu_half_last, silu, hard_swish, hard_swish_gated, hard_sigmoid, mish, other]
    return net.model(*map(net.pooled, all_of_them))


@network(11, 18)
def pools(net):
    x = net.conv(net.x, 3, 2, pads=[1, 1, 1, 1])
    parts = [
        net.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
        net.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[0, 0, 1, 1]),
        net.op("MaxPool", x, kernel_shape=[2, 2], dilations=[2, 2]),
        net.op("AveragePool", x, kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        net.op("AveragePool", x, kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1),
        net.op("AveragePool", x, kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER"),
        net.op("Pad", x, net.ints(0, 0, 1, 0, 0, 0, 0, 2), net.constant(np.float32(0.5))),
    ]
    # Means over a plane hide where values lie, which maxima do not.
    parts = [net.op("Flatten", net.op("GlobalMaxPool", part)) for part in parts] + [net.pooled(p) for p in parts]
    for op in ("ReduceMean", "ReduceMax"):
        if net.opset >= 18:
            parts.append(net.op(op, x, net.ints(-1, -2), keepdims=0))
            parts.append(net.op("Flatten", net.op(op, x, net.ints(1))))
        else:
            parts.append(net.op(op, x, axes=[2, 3], keepdims=0))
            parts.append(net.op("Flatten", net.op(op, x, axes=[1])))
    return net.model(*parts)


@network(13)
def arithmetic(net):
    """Squeeze and excite, and other tensors of unequal shapes."""
    x = net.conv(net.x, 3, 4)
    squeezed = net.op("GlobalAveragePool", x)
    gate = net.op("HardSigmoid", net.conv(net.op("Relu", net.conv(squeezed, 4, 2, 1)), 2, 4, 1))
    one, other = net.conv(net.x, 3, 4), net.conv(net.x, 3, 1)
    parts = [
        net.op("Mul", x, gate),
        net.op("Add", gate, x),
        net.op("Sub", one, x),
        net.op("Div", one, net.op("Exp", other)),
        net.op("Max", x, one),
        net.op("Min", x, one, other),
        net.op("Sum", x, one, x),
        net.op("Relu", net.op("Add", x, one)),
        net.op("Add", x, net.weights(4, 6, 6)),
        net.op("Mul", x, net.weights(6)),
        net.op("Add", net.op("Mul", x, net.weights(4, 1, 1)), net.weights(1, 4, 1, 1)),
    ]
    return net.model(*map(net.pooled, parts))


def spread(net, x):
    """[n, 5, 4] as a vector in which every value counts."""
    return net.op("Reshape", x, net.ints(0, -1))


@network(11, 17)
def norms(net):
    tokens = net.op("Transpose", net.op("Reshape", net.conv(net.x, 3, 4), net.ints(-1, 4, 36)), perm=[0, 2, 1])
    reduce = {"axes": [-1]}
    mean = net.op("ReduceMean", tokens, **reduce)
    minus = net.op("Sub", tokens, mean)
    square = net.op("Pow", minus, net.constant(np.float32(2)))
    variance = net.op("Add", net.op("ReduceMean", square, **reduce), net.constant(np.float32(1e-5)))
    normal = net.op("Div", minus, net.op("Sqrt", variance))
    parts = [net.op("Add", net.op("Mul", normal, net.weights(4)), net.weights(4))]
    if net.opset >= 17:
        parts.append(net.op("LayerNormalization", tokens, net.weights(4), net.weights(4), epsilon=1e-3))
        parts.append(net.op("LayerNormalization", tokens, net.weights(36, 4), axis=1))
    parts.append(net.op("InstanceNormalization", net.conv(net.x, 3, 4), net.weights(4), net.weights(4)))
    parts.append(net.op("LRN", net.conv(net.x, 3, 6), size=3, alpha=0.3, beta=0.6, bias=1.5))
    return net.model(*[spread(net, part) for part in parts])


@network(11, 13)
def softmaxes(net):
    x = net.conv(net.x, 3, 4)
    inner = net.op("Softmax", x, axis=1)
    last = net.op("Softmax", x, axis=-1)
    log = net.op("LogSoftmax", x, axis=3)
    return net.model(*[spread(net, part) for part in (inner, last, log)])


@network(11, 13)
def parts(net):
    """Channels split, joined and shuffled."""
    x = net.conv(net.x, 3, 6)
    if net.opset >= 13:
        a, b = net.op("Split", x, net.ints(2, 4), axis=1, outputs=2)
        last = net.op("Squeeze", net.op("Slice", x, net.ints(-1), net.ints(99), net.ints(1)), net.ints(1))
    else:
        a, b = net.op("Split", x, split=[2, 4], axis=1, outputs=2)
        last = net.op("Squeeze", net.op("Slice", x, net.ints(-1), net.ints(99), net.ints(1)), axes=[1])
    c, d, e = net.op("Split", x, axis=1, outputs=3)
    rows = net.op("Slice", x, net.ints(1, 0), net.ints(5, 6), net.ints(2, 3), net.ints(2, 3))
    shuffled = net.op("Concat", e, b, c, axis=1)
    shuffled = net.op("Reshape", shuffled, net.ints(0, 2, 4, 6, 6))
    shuffled = net.op("Reshape", net.op("Transpose", shuffled, perm=[0, 2, 1, 3, 4]), net.ints(-1, 8, 6, 6))
    stacked = net.op("Concat", a, d, axis=-2)
    shuffled = net.op("Add", net.conv(shuffled, 8, 2, 1), net.conv(stacked, 2, 2, 1, strides=[2, 1]))
    one = net.op("Gather", x, net.constant(np.int64(-2)), axis=1)
    every_other = net.op("Gather", x, net.ints(1, 3, 5), axis=3)
    token = net.op("Concat", net.weights(1, 1, 6, 6), x, net.weights(1, 2, 6, 6), axis=1)
    token = net.conv(token, 9, 3, 2)
    return net.model(*[spread(net, part) for part in (rows, shuffled, one, every_other, last, token)])


@network(13)
def shapes(net):
    """Arithmetic on shapes, as exporters write it in front of a Reshape."""
    x = net.conv(net.x, 3, 4)
    shape = net.op("Shape", x)
    batch = net.op("Unsqueeze", net.op("Gather", shape, net.constant(np.int64(0))), net.ints(0))
    view = net.op("Reshape", x, net.op("Concat", batch, net.ints(-1), axis=0))
    plane = net.op("Slice", shape, net.ints(2), net.ints(4), net.ints(0))
    half = net.op("Cast", net.op("Floor", net.op("Div", net.op("Cast", plane, to=1), net.constant(np.float32(2)))), to=7)
    quarters = net.op("Concat", batch, net.ints(16), half, axis=0)
    ones = net.op("ConstantOfShape", net.op("Shape", quarters), value=numpy_helper.from_array(np.int64([1])))
    minus = net.op("Mul", ones, net.ints(-1))
    known = net.op("Where", net.op("Equal", quarters, minus), ones, quarters)
    blocks = net.op("Reshape", x, known)
    token = net.op("Expand", net.weights(1, 16, 1, 3), net.op("Concat", batch, net.ints(16, 1, 3), axis=0))
    blocks = net.op("Concat", token, blocks, axis=2)
    count = net.op("Range", net.constant(np.int64(0)), net.op("Size", shape), net.constant(np.int64(1)))
    same = net.op("Reshape", x, net.op("Gather", shape, count))
    return net.model(view, net.pooled(blocks), net.pooled(same))


@network(13)
def products(net):
    """Products of two tensors, and of constants."""
    x, y = net.conv(net.x, 3, 4), net.conv(net.x, 3, 2)
    matmul = net.op("MatMul", x, net.op("Transpose", x, perm=[0, 1, 3, 2]))
    sums = net.op("Einsum", x, y, equation="nchw,nkhw->nck")
    kept = net.op("Einsum", x, y, equation="ncaw, nkwb -> nkcba")
    length = net.op("ReduceL2", x, axes=[-1])
    unit = net.op("Div", x, net.op("Expand", net.op("Clip", length, net.constant(np.float32(1e-3))), net.op("Shape", x)))
    bias = net.op("Sigmoid", net.op("Relu", net.op("MatMul", net.weights(1, 3, 6, 2), net.weights(2, 6))))
    backwards = net.op("Slice", bias, net.ints(-1), net.ints(-(2**62)), net.ints(3), net.ints(-2))
    places = net.constant(np.array([[[0, 1]], [[0, -1]]], np.int64))
    marked = net.op("ScatterND", backwards, places, net.weights(2, 1, 6, 3))
    added = net.op("Add", net.op("Concat", y, net.op("Slice", x, net.ints(0), net.ints(1), net.ints(1)), axis=1), bias)
    found = net.op("GatherND", marked, net.constant(np.array([[[0, 1, 0], [0, 0, 5]]], np.int64)))
    added = net.op("Add", added, net.op("Concat", marked, marked, axis=3))
    added = net.op("Mul", added, net.op("Reshape", found, net.ints(6, 1)))
    return net.model(*[spread(net, part) for part in (matmul, sums, kept, unit, added)])


@network(17)
def lines(net):
    """Windows over signals."""
    x = net.op("Reshape", net.x, net.ints(0, 3, 64))

    def conv(x, inputs, outputs, side=3, **attributes):
        groups = attributes.get("group", 1)
        return net.op("Conv", x, net.weights(outputs, inputs // groups, side), net.weights(outputs), **attributes)

    scale = [net.weights(4), net.weights(4), net.weights(4), net.constant(np.float32([1, 2, 0.5, 3]))]
    normal = net.op("BatchNormalization", conv(x, 3, 4, pads=[1, 1]), *scale)
    depthwise = conv(x, 3, 6, 5, group=3, strides=[2], auto_pad="SAME_LOWER")
    residual = net.op("Relu", net.op("Add", normal, conv(normal, 4, 4, pads=[1, 1])))
    parts = [
        net.op("MaxPool", residual, kernel_shape=[3], strides=[2], ceil_mode=1),
        net.op("AveragePool", depthwise, kernel_shape=[3], pads=[1, 1]),
        net.op("InstanceNormalization", conv(x, 3, 4, dilations=[2], pads=[0, 3]), net.weights(4), net.weights(4)),
        net.op("LRN", net.conv(net.x, 3, 6), size=3, alpha=0.3),
    ]
    tops = [net.op("Flatten", net.op("GlobalMaxPool", part)) for part in parts]
    means = [net.op("ReduceMean", part, axes=[2], keepdims=0) for part in parts[:3]]
    return net.model(*tops, *means, *[net.pooled(part) for part in parts])


@network(17)
def optimised(net):
    """What ONNX Runtime writes into files that it has optimised."""
    own = lambda op, *inputs, **attributes: net.op(op, *inputs, domain="com.microsoft", **attributes)  # noqa: E731
    conv = lambda x, inputs, *more, **attributes: own(  # noqa: E731
        "FusedConv", x, net.weights(4, inputs, 3, 3), net.weights(4), *more, pads=[1] * 4, **attributes
    )
    x = conv(net.x, 3, activation="Relu")
    leaky = conv(x, 4, activation="LeakyRelu", activation_params=[0.3])
    summed = conv(x, 4, leaky, activation="Relu")
    clipped = conv(net.x, 3, activation="Clip", activation_params=[-0.5, 1.5])
    hard = conv(net.x, 3, activation="HardSigmoid", activation_params=[0.3, 0.4])
    gemm = own("FusedGemm", net.pooled(x), net.weights(5, 4), net.weights(5), transB=1, alpha=0.5, activation="Tanh")
    rows = net.op("Reshape", summed, net.ints(0, 16, 16))
    product = own("FusedMatMul", rows, rows, transA=1, transB=1, alpha=0.1)
    product = own("FusedMatMul", product, net.weights(6, 16), transB=1)
    bias = net.weights(6)
    parts = [
        own("Gelu", product),
        own("BiasGelu", product, bias),
        own("FastGelu", product, bias),
        own("QuickGelu", product, alpha=1.5),
        own("SkipLayerNormalization", product, own("Gelu", product), net.weights(6), net.weights(6), bias),
    ]
    return net.model(*map(net.pooled, (leaky, summed, clipped, hard)), gemm, *[spread(net, part) for part in parts])


@network(17)
def measure(net):
    """One output that is no probability."""
    return net.model(net.op("Gemm", net.pooled(net.conv(net.x, 3, 4)), net.weights(4, 1)))


@network(11, 18)
def resized(net):
    """Every mode of a Resize, larger and smaller, by scales and by sides."""
    x = net.conv(net.x, 3, 2)
    number = lambda *values: net.constant(np.float32(values))  # noqa: E731
    resize = lambda scales, **attributes: net.pooled(  # noqa: E731
        net.conv(net.op("Resize", x, number(), number(1, 1, *scales), **attributes), 2, 2)
    )
    parts = [resize((2, 2), mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")]
    for nearest in ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]:
        parts.append(resize((1.7, 0.6), mode="nearest", nearest_mode=nearest))
    for mode in ["linear", "cubic"]:
        for coordinates in ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"]:
            parts.append(resize((1.5, 2), mode=mode, coordinate_transformation_mode=coordinates))
        parts.append(resize((0.6, 0.6), mode=mode))
    parts.append(resize((1.5, 2), mode="cubic", exclude_outside=1, cubic_coeff_a=-0.5))
    sides = net.op("Resize", x, number(), number(), net.ints(1, 2, 11, 5), mode="linear")
    parts.append(net.pooled(net.conv(sides, 2, 2)))
    return net.model(*parts)


@network(9, 10)
def upsampled(net):
    """What resized before opset 11."""
    x = net.conv(net.x, 3, 2)
    op = "Upsample" if net.opset < 10 else "Resize"
    scales = lambda *values: net.constant(np.float32([1, 1, *values]))  # noqa: E731
    grown = [net.op(op, x, scales(2, 3), mode=mode) for mode in ["nearest", "linear"]]
    return net.model(*[net.pooled(net.conv(grown, 2, 2)) for grown in grown])


@network(11, 17)
def transposed(net):
    """Transposed convolutions."""
    spread = lambda x, inputs, outputs, *rest, group=1, **attributes: net.op(  # noqa: E731
        "ConvTranspose", x, net.weights(inputs, outputs // group, 3, 3), *rest, group=group, **attributes
    )
    x = net.conv(net.x, 3, 4)
    parts = [
        spread(x, 4, 3, net.weights(3), strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 1]),
        spread(x, 4, 6, group=2, strides=[2, 1], dilations=[1, 2]),
        spread(x, 4, 2, strides=[2, 2], pads=[0, 1, 1, 0]),
        spread(x, 4, 2, strides=[2, 2], auto_pad="SAME_UPPER"),
        spread(x, 4, 2, strides=[2, 2], auto_pad="SAME_LOWER"),
        spread(x, 4, 2, strides=[2, 2], output_shape=[12, 13]),
    ]
    line = net.op("ReduceMean", x, axes=[2], keepdims=0)
    line = net.op("ConvTranspose", line, net.weights(4, 2, 3), strides=[2])
    normal = [net.weights(3), net.weights(3), net.weights(3), net.constant(np.float32([1, 2, 0.5]))]
    parts[0] = net.op("BatchNormalization", parts[0], *normal)
    return net.model(*map(net.pooled, parts), net.op("ReduceMean", line, axes=[2], keepdims=0))


@network(11, 17)
def places(net):
    """Where numbers are the largest, and reductions of other kinds."""
    x = net.conv(net.x, 3, 4)
    v = net.pooled(x)
    number = lambda name, x, **attributes: net.op(name, x, axes=[2, 3], keepdims=0, **attributes)  # noqa: E731
    most = net.op("Cast", net.op("ArgMax", x, axis=1, keepdims=1), to=TensorProto.FLOAT)
    least = net.op("Cast", net.op("ArgMin", x, axis=3, keepdims=0), to=TensorProto.FLOAT)
    top, at = net.op("TopK", v, net.ints(3), outputs=2)
    last, there = net.op("TopK", x, net.ints(2), outputs=2, axis=1, largest=0)
    at = net.op("Cast", net.op("Cast", at, to=TensorProto.INT32), to=TensorProto.FLOAT)
    there = net.op("Cast", there, to=TensorProto.FLOAT)
    parts = [number("ReduceMean", part) for part in [most, last, there, net.op("Sign", x)]]
    parts += [number(name, x) for name in ["ReduceMin", "ReduceL1", "ReduceSumSquare"]]
    return net.model(*parts, net.op("ReduceMean", least, axes=[2], keepdims=0), top, at)


@network(17)
def inputs(net):
    """Two inputs."""
    net.inputs["facts"] = [5]
    small = net.op("Mul", "facts", net.constant(np.float32(1 / 64)))
    facts = net.op("Relu", net.op("Gemm", small, net.weights(5, 4)))
    both = net.op("Concat", net.pooled(net.op("Relu", net.conv(net.x, 3, 6))), facts, axis=1)
    return net.model(net.op("Gemm", both, net.weights(10, 4), net.weights(4)))


@network(13)
def channels_last(net):
    """Pictures as TensorFlow has them."""
    net.inputs, net.nodes = {"pixels": [8, 6, 3]}, []
    x = net.op("Mul", "pixels", net.constant(np.float32(1 / 64)))
    x = net.op("Sub", x, net.constant(np.float32([2, 1.9, 2.1])))
    x = net.conv(net.op("Transpose", x, perm=[0, 3, 1, 2]), 3, 4, pads=[1] * 4)
    return net.model(net.pooled(x))


@network(17)
def results(net):
    """Outputs that are no exits: a map, what hangs on it, and two heads of as many classes at the same depth."""
    x = net.op("Relu", net.conv(net.x, 3, 6, pads=[1] * 4))
    plane = net.conv(x, 6, 2, pads=[1] * 4)
    vector = net.pooled(x)
    head = lambda outputs: (net.op("Gemm", vector, net.weights(6, outputs), net.weights(outputs)), [outputs])  # noqa: E731
    return net.results(plane=(plane, [2, 8, 8]), kind=head(5), colour=head(5), vector=(vector, [6]), years=head(1))


class Steps:
    """Scales and zero points that are powers of two and small numbers: every sum is exact, and so is every rounding."""

    def __init__(self, net, signed=True):
        self.net, self.type = net, np.int8 if signed else np.uint8

    def at(self, scale, zero=0):
        return self.net.constant(np.float32(scale)), self.net.constant(self.type(zero))

    def weights(self, *shape):
        return self.net.constant(self.net.random.integers(-9, 9, shape).astype(np.int8))


def numbers(net, *shape):
    return net.constant(net.random.integers(-300, 300, shape).astype(np.int32))


@network(13)
def pairs(net):
    """QuantizeLinear and DequantizeLinear around what is computed in real numbers."""
    steps, plain = Steps(net, signed=False), net.constant(np.int8(0))

    def rounded(x, scale, zero):
        scale, zero = steps.at(scale, zero)
        return net.op("DequantizeLinear", net.op("QuantizeLinear", x, scale, zero), scale, zero)

    def conv(x, inputs, outputs, scales):
        scales = net.constant(np.float32(scales))
        zeros = net.constant(np.zeros(outputs, np.int8))
        weight = net.op("DequantizeLinear", steps.weights(outputs, inputs, 3, 3), scales, zeros, axis=0)
        bias = net.op("DequantizeLinear", numbers(net, outputs), net.constant(np.float32(1 / 64)))
        return net.op("Conv", x, weight, bias, pads=[1] * 4)

    x = rounded("pixels", 4, 3)
    x = rounded(net.op("Relu", conv(x, 3, 4, [1 / 8, 1 / 4, 1 / 8, 1 / 16])), 8, 0)
    scale, zero = steps.at(16, 128)
    whole = net.op("QuantizeLinear", conv(x, 4, 4, [1 / 8, 1 / 16, 1 / 4, 1 / 8]), scale, zero)
    whole = net.op("Reshape", net.op("MaxPool", whole, kernel_shape=[2, 2], strides=[2, 2]), net.ints(0, -1))
    other, another = steps.at(8, 100)
    rows = net.op("DequantizeLinear", whole, scale, zero)
    stored = net.op("QuantizeLinear", net.weights(64, 5), net.constant(np.float32(1 / 64)), plain)
    stored = net.op("DequantizeLinear", stored, net.constant(np.float32(1 / 64)), plain)
    return net.model(rounded(net.op("MatMul", rows, stored), 4, 120), net.op("DequantizeLinear", whole, other, another))


@network(13)
def whole(net):
    """Operators of whole numbers."""
    steps, signed = Steps(net, signed=False), Steps(net)
    own = lambda op, *inputs, **attributes: net.op(op, *inputs, domain="com.microsoft", **attributes)  # noqa: E731
    fine, coarse = steps.at(4, 3), steps.at(32, 120)
    weight = signed.at(1 / 8)
    x = net.op("QuantizeLinear", "pixels", *fine)
    conv = lambda x, step, inputs: net.op(  # noqa: E731
        "QLinearConv", x, *step, signed.weights(4, inputs, 3, 3), *weight, *coarse, numbers(net, 4), pads=[1] * 4
    )
    x = conv(x, fine, 3)
    y = conv(x, coarse, 4)
    summed = own("QLinearAdd", x, *coarse, y, *coarse, *coarse)
    leaky = own("QLinearLeakyRelu", summed, *coarse, *coarse, alpha=0.25)
    joined = own("QLinearConcat", *coarse, leaky, *coarse, y, *coarse, axis=1)
    joined = net.op("MaxPool", joined, kernel_shape=[2, 2], strides=[2, 2])
    mean = own("QLinearGlobalAveragePool", joined, *coarse, *coarse)
    rows = net.op("Flatten", mean)
    gemm = own("QGemm", rows, *coarse, signed.weights(5, 8), *weight, numbers(net, 5), *coarse, transB=1)
    product = net.op("QLinearMatMul", rows, *coarse, signed.weights(8, 3), *weight, *coarse)
    return net.model(*[net.op("DequantizeLinear", part, *coarse) for part in (gemm, product, rows)])


def older():
    """The same network in an operator set from before broadcasting, and in one that ONNX Runtime runs."""

    def build(opset):
        net = Net(opset)
        old = opset < 7
        channels = {"broadcast": 1, "axis": 1} if old else {}
        along = lambda count: net.weights(*([count] if old else [count, 1, 1]))  # noqa: E731
        test = {"is_test": 1} if old else {}
        consumed = {"consumed_inputs": [0, 0, 0, 1, 1]} if old else {}
        x = net.conv(net.x, 3, 4, pads=[1] * 4)
        x = net.op("Add", x, along(4), **channels)
        variance = net.constant(np.float32([1, 2, 0.5, 3]))
        x = net.op("BatchNormalization", x, *[net.weights(4) for _ in range(3)], variance, **test, **consumed)
        x = net.op("PRelu", x, along(4))
        x = net.op("Mul", x, net.weights(8), **net.broadcast)
        x = net.op("Cast", x, to="FLOAT" if old else TensorProto.FLOAT)
        bounds = [] if old else [net.constant(np.float32(bound)) for bound in (-1, 2)]
        x = net.op("Clip", x, *bounds, **({"min": -1.0, "max": 2.0} if old else {}))
        pooled = net.pooled(net.op("Dropout", x, **test))
        gemm = net.op("Gemm", pooled, net.weights(4, 5), net.weights(5), **net.broadcast)
        return net.model(gemm, net.op("Softmax", pooled, axis=1))

    return build(5), build(13)


def batched(model, batch):
    """A model whose file runs so many samples at once."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    for value in [*fixed.graph.input, *fixed.graph.output]:
        value.type.tensor_type.shape.dim[0].dim_value = batch
    return fixed


def exported(model, side, kind, opset):
    torch.manual_seed(1)
    picture = torch.zeros(2, 3, side, side)
    names = {"input_names": ["pixels"], "output_names": ["final"], "opset_version": opset}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        path = pathlib.Path(folder) / "model.onnx"
        if kind == "old":
            axes = {"pixels": {0: "n"}, "final": {0: "n"}}
            torch.onnx.export(model, (picture[:1],), path, dynamo=False, dynamic_axes=axes, **names)
        else:
            shapes = ({0: torch.export.Dim("n")},)
            torch.onnx.export(model, (picture,), path, dynamo=True, dynamic_shapes=shapes, verbose=False, **names)
        proto = onnx.load(path)
    for node in proto.graph.node:
        # Where in the source each node comes from: most of a small file.
        kept = [entry for entry in node.metadata_props if entry.key == "pkg.torch.onnx.name_scopes"]
        del node.metadata_props[:]
        node.metadata_props.extend(kept)
        node.doc_string = ""
    del proto.graph.value_info[:], proto.metadata_props[:]
    return proto


class Scaled(torch.nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, pixels):
        return self.network((pixels - 127.5) / 64)


def transformer():
    torch.manual_seed(1)
    vit = torchvision.models.VisionTransformer(8, 4, 1, 2, 8, 16, num_classes=5)
    for parameter in vit.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return Scaled(vit).eval()


def convnext():
    torch.manual_seed(1)
    blocks = [torchvision.models.convnext.CNBlockConfig(4, 8, 1), torchvision.models.convnext.CNBlockConfig(8, None, 1)]
    network = torchvision.models.ConvNeXt(blocks, num_classes=5)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return Scaled(network).eval()


for kind, opset in [("old", 14), ("new", 20)]:
    NETWORKS[f"transformer_{kind}_{opset}"] = lambda kind=kind, opset=opset: exported(transformer(), 8, kind, opset)
for kind, opset in [("old", 13), ("new", 18)]:
    NETWORKS[f"convnext_{kind}_{opset}"] = lambda kind=kind, opset=opset: exported(convnext(), 32, kind, opset)


def halved(model):
    """The model all in half precision, and one of the same numbers in single precision."""
    half, full = onnx.ModelProto(), onnx.ModelProto()
    half.CopyFrom(model)
    full.CopyFrom(model)
    for tensor, same in zip(half.graph.initializer, full.graph.initializer, strict=True):
        if tensor.data_type == TensorProto.FLOAT:
            rounded = numpy_helper.to_array(tensor).astype(np.float16)
            tensor.CopyFrom(numpy_helper.from_array(rounded, tensor.name))
            same.CopyFrom(numpy_helper.from_array(rounded.astype(np.float32), tensor.name))
    for value in [*half.graph.input, *half.graph.output]:
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    return half, full


def main():
    files, references = {}, {}

    def add(name, model, same=None):
        files[name] = model.SerializeToString()
        answers = reference((same or model).SerializeToString())
        exits = [
            {"name": exit["name"], "logits": [[float(f"{v:.7g}") for v in image] for image in exit["logits"][:2]]}
            for exit in answers["exits"]
        ]
        references[name] = {"seed": answers["seed"], "exits": exits}
        print(f"{name:20} {len(files[name])} bytes")

    pairs_of_models = {
        "half": lambda: halved(NETWORKS["convolutions_17"]()),
        "older_5": older,
        "batch_32": lambda: (batched(NETWORKS["convolutions_17"](), 32), NETWORKS["convolutions_17"]()),
    }
    chosen = sys.argv[1:] or [*NETWORKS, *pairs_of_models]
    for name in chosen:
        add(name, *([NETWORKS[name]()] if name in NETWORKS else pairs_of_models[name]()))

    OUT.mkdir(parents=True, exist_ok=True)
    if sys.argv[1:]:
        references = json.loads((OUT / "references.json").read_text()) | references
    else:
        for old in OUT.iterdir():
            old.unlink()
    for name, file in files.items():
        (OUT / f"{name}.onnx").write_bytes(file)
    if "convolutions_17" in files:
        # The same model with the sides of its pictures left open.
        open_sides = onnx.load_from_string(files["convolutions_17"])
        for side in open_sides.graph.input[0].type.tensor_type.shape.dim[2:]:
            side.dim_param = "side"
        onnx.save(open_sides, OUT / "open.onnx")
        # The same model with its weights in a file of their own.
        (OUT / "outside.data").unlink(missing_ok=True)
        outside = onnx.load_from_string(files["convolutions_17"])
        onnx.save(outside, OUT / "outside.onnx", save_as_external_data=True, location="outside.data", size_threshold=0)

    text = json.dumps(references)
    text = text.replace("[[", "[\n[").replace("], [", "],\n[").replace("}, ", "},\n")
    (OUT / "references.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
