"""The training script of the documentation runs, and its record is what the script says."""

import importlib.util
from pathlib import Path

import numpy as np

SCRIPT = Path(__file__).parents[2] / "docs" / "examples" / "train_digits_torch.py"


def test_a_few_steps_of_each_optimizer(tmp_path):
    spec = importlib.util.spec_from_file_location("train_digits_torch", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    curves = {}
    for name in script.OPTIMIZERS:
        losses, accuracies, recorder = script.train(name, epochs=2, steps=6)
        assert losses[1] < losses[0] < 2.5
        assert all(0 <= accuracy <= 1 for accuracy in accuracies)
        curves[name] = losses
    record = recorder.trajectory()
    assert record.info["ratio"].shape == (12, 6)
    np.testing.assert_allclose(record.info["ratio"], record.info["n_m"] / record.info["n_d"], rtol=1e-15)
    script.draw(curves, str(tmp_path / "curves.png"))
    assert (tmp_path / "curves.png").stat().st_size > 1000
