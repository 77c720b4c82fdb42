"""What prediction loads: a worker of a cluster that maps a scene has no need of Lightning."""

import subprocess
import sys

CODE = """
import sys
import geoxt.inference
import geoxt.cli.predict
print(*sorted({name.split(".")[0] for name in sys.modules} | {name for name in sys.modules if "geoxt.t" in name}))
"""


def test_prediction_loads_nothing_of_training():
    run = subprocess.run([sys.executable, "-c", CODE], check=True, capture_output=True, text=True)
    loaded = set(run.stdout.split())
    assert "torch" in loaded
    assert loaded & {"pytorch_lightning", "lightning", "torchmetrics", "torchvision", "matplotlib"} == set()
    assert [name for name in loaded if name.startswith("geoxt.trainers")] == []
