#!/usr/bin/env bash
# Retrains a bundled network and exports it, with ONNX Runtime's reference logits. Resumes where it stopped.
# usage: models/train/retrain.sh NETWORK DATA       DATA: the folder that holds cifar-10-batches-bin/
set -euo pipefail
network=${1:?usage: models/train/retrain.sh NETWORK DATA}
data=${2:?usage: models/train/retrain.sh NETWORK DATA}
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
python=target/train/bin/python
if [ ! -x $python ]; then
    python3 -m venv target/train
    $python -m pip install -r models/train/requirements.txt
fi
$python models/train/train.py "$network" --data "$data"
$python models/train/export.py "$network" --data "$data" --out "models/$network.onnx"
$python models/train/reference.py "models/$network.onnx" --out "models/$network.reference.json"
