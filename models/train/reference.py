"""Writes the logits that ONNX Runtime computes, for the test that compares coprof's runtime with it.

    python models/train/reference.py models/alexnet.onnx --out models/alexnet.reference.json

The inputs are made up, so that they need not be stored. One 64-bit state runs through all of them, image after image, each
row-major in the order channel, row, column (or as the file has it; of several inputs one behind the other), starting at the seed that the file names. For every value

    state = (state * 6364136223846793005 + 1442695040888963407) mod 2^64
    value = state >> 56                                                      (an integer from 0 to 255)

The file: `model_sha256` of the ONNX file, `seed`, `input_shape` of one image, and for each of the `exits` its `name` and
its `logits`, one list for each image.
"""

import argparse
import hashlib
import json
import math
import pathlib

import numpy as np
import onnxruntime

from export import write_whole

IMAGES = 4
SEED = 2021


def made_up_pixels(shape, seed):
    state, values = seed, []
    for _ in range(math.prod(shape)):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        values.append(state >> 56)
    return np.array(values, np.float32).reshape(shape)


def reference(file):
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    inputs = {source.name: source.shape[1:] for source in session.get_inputs()}
    sizes = [math.prod(sides) for sides in inputs.values()]
    pixels = made_up_pixels((IMAGES, sum(sizes)), SEED)
    names = [output.name for output in session.get_outputs()]
    # One image at a time, as coprof runs them. Nine digits tell all 32-bit floats apart.
    parts = [np.split(image, np.cumsum(sizes)[:-1]) for image in pixels]
    feeds = [
        {name: part.reshape(1, *sides) for (name, sides), part in zip(inputs.items(), image, strict=True)}
        for image in parts
    ]
    logits = [[session.run([name], feed)[0][0] for feed in feeds] for name in names]
    rows = [[[float(f"{value:.9g}") for value in np.ravel(image)] for image in exit] for exit in logits]
    return {
        "model_sha256": hashlib.sha256(file).hexdigest(),
        "made_by": f"ONNX Runtime {onnxruntime.__version__}, models/train/reference.py",
        "seed": SEED,
        "input_shape": list(*inputs.values()) if len(inputs) == 1 else [sum(sizes)],
        "exits": [{"name": name, "logits": images} for name, images in zip(names, rows, strict=True)],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=pathlib.Path, help="the ONNX file")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="the JSON file to write")
    args = parser.parse_args()

    text = json.dumps(reference(args.model.read_bytes())).replace("[[", "[\n[").replace("], [", "],\n[")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(args.out, (text + "\n").encode())
    print(f"{args.out}  {IMAGES} images")


if __name__ == "__main__":
    main()
