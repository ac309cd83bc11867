"""graftsim_tf on each of Keras's backends, each in a process of its own."""

import functools

import pytest

from tests.tf_adapter import programs

RUNS = {
    "tensorflow": ("everywhere", "on_tensorflow", "in_training", "machines", "certified"),
    "jax": ("everywhere", "on_jax", "in_training"),
    "torch": ("everywhere", "in_training"),
}
CHECKS = [(backend, part, name) for backend, parts in RUNS.items() for part in parts for name in programs.names(part)]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What a backend's checks raised, by part and name; a backend runs once."""

    @functools.cache
    def of(backend: str) -> dict[str, str]:
        folder = tmp_path_factory.mktemp(backend)
        return programs.start(folder, KERAS_BACKEND=backend, PARTS=" ".join(RUNS[backend]))

    return of


@pytest.mark.parametrize(("backend", "part", "name"), CHECKS)
def test_backend(backend: str, part: str, name: str, found) -> None:
    raised = found(backend)[f"{part}.{name}"]
    assert not raised, raised
