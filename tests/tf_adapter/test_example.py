"""The documented example trains."""

import os
import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "train_digits_keras.py"


def test_the_digits_for_two_epochs(tmp_path) -> None:
    environment = {
        **os.environ,
        "KERAS_BACKEND": "tensorflow",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "KERAS_HOME": str(tmp_path),
    }
    command = [sys.executable, str(EXAMPLE), "--epochs", "2", "--images", "500"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    assert [line.split()[0] for line in done.stdout.splitlines() if "accuracy" in line] == ["SGD", "Adam", "Adam#SGD"]
    assert all(float(line.split("loss")[1].split()[0]) < 2.3 for line in done.stdout.splitlines() if "loss" in line)
    assert "head/kernel" in done.stdout
    assert "variables without a direction: none" in done.stdout
