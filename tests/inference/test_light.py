"""Imports of prediction: workers of a cluster do not need Lightning."""

import subprocess
import sys

CODE = """
import sys
import geoxt.inference
import geoxt.cli.predict
print(*sorted({name.split(".")[0] for name in sys.modules} | {name for name in sys.modules if "geoxt.t" in name}))
"""


def test_prediction_does_not_import_lightning():
    run = subprocess.run([sys.executable, "-c", CODE], check=True, capture_output=True, text=True)
    loaded = set(run.stdout.split())
    assert "torch" in loaded
    assert loaded & {"pytorch_lightning", "lightning", "torchmetrics", "torchvision", "matplotlib"} == set()
    assert [name for name in loaded if name.startswith("geoxt.trainers")] == []
