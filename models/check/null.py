"""Writes models/null.onnx: two layers that do next to nothing.

What coprof's own threads and sockets cost per task is measured by running this network through the real pipeline.

    python models/check/null.py models/null.onnx
"""

import sys

import onnx
from onnx import TensorProto, helper

first = helper.make_node("Relu", ["input"], ["passed"], name="pass")
last = helper.make_node("Flatten", ["answered"], ["logits"], name="flatten")
middle = helper.make_node("Sigmoid", ["passed"], ["answered"], name="answer")
graph = helper.make_graph(
    [first, middle, last],
    "null",
    [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 2, 1, 1])],
    [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 2])],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
onnx.checker.check_model(model)
onnx.save(model, sys.argv[1])
