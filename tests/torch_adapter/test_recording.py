"""Discovery in training: a record of norms and ratios, silent groups, corrections."""

from functools import partial

import numpy as np
import pytest
import torch
from torch.optim import SGD, Adam

from graftsim import trajectory
from graftsim_torch import Graft, Recorder, corrections, discover, save_corrections, silent
from tests.torch_adapter.recipes import RECIPES, SHAPES, flat, give, named, parameters, run, stream


def recorded(steps=6, every=1, partition="tensor", **options):
    params = parameters()
    graft = Graft(named(params), partial(Adam, lr=0.01), partial(SGD, lr=1.0), partition=partition)
    recorder, infos = Recorder(graft, machine="adam(lr=0.01)#sgd(lr=1)", every=every, **options), []
    for number, row in enumerate(stream(steps)):
        give(params, row)
        graft.step()
        infos.append(graft.info)
        recorder.record(torch.tensor(float(number)))
    return recorder, infos, params


def test_a_record_is_a_trajectory(tmp_path):
    recorder, infos, params = recorded(problem="noise", seed=3)
    recorder.trajectory().save(tmp_path / "run.npz")
    found = trajectory.load(tmp_path / "run.npz")
    assert found.meta.layout.shapes == tuple(SHAPES.values())
    assert (found.meta.problem, found.meta.seed, found.meta.dtype) == ("noise", 3, "float64")
    assert found.steps.tolist() == list(range(7))
    np.testing.assert_array_equal(found.last, flat(params).numpy())
    np.testing.assert_array_equal(found.loss[:6], np.arange(6.0))
    assert np.isnan(found.loss[6])
    for name in ("n_m", "n_d", "ratio"):
        np.testing.assert_array_equal(found.info[name], [getattr(info, name).numpy() for info in infos])
        assert found.meta.groups[name] == tuple(SHAPES)


def test_every_few_steps():
    recorder, infos, _ = recorded(every=3)
    found = recorder.trajectory()
    assert found.steps.tolist() == [0, 3, 6]
    np.testing.assert_array_equal(found.info["ratio"][0], infos[2].ratio.numpy())


def test_a_record_of_no_steps_and_the_partition_that_has_none():
    params = parameters()
    graft = Graft(params, Adam, SGD)
    assert Recorder(graft).trajectory().steps.tolist() == [0]
    with pytest.raises(ValueError, match="a group for each weight"):
        Recorder(Graft(params, Adam, SGD, partition="coordinate"))
    with pytest.raises(ValueError, match="must stand after a step"):
        Recorder(graft).record()


def test_grafts_inside_are_recorded_under_their_paths():
    params = parameters()
    inner = partial(Graft, magnitude=Adam, direction=SGD, partition="global")
    graft = Graft(params, inner, partial(SGD, momentum=0.9))
    recorder = Recorder(graft)
    give(params, stream(1)[0])
    graft.step()
    recorder.record()
    assert recorder.trajectory().info["magnitude.ratio"].shape == (1, 1)
    assert recorder.trajectory().meta.groups["magnitude.ratio"] == ("all",)


def test_silent_groups():
    recorder, infos, _ = recorded()
    assert silent(recorder.trajectory()) == {"a.weight": 1, "a.bias": 1, "empty": 6}
    assert [info.missing.tolist() for info in infos][2] == [False, True, False, False, False]


def test_corrections_by_way_of_a_file(tmp_path):
    """SGD with the ratios of a step is the graft of that step."""
    shapes = {"a.weight": (3, 4), "b": (4,)}
    rows = stream(1, shapes=shapes)
    grafted, plain = parameters(shapes=shapes), parameters(shapes=shapes)
    graft = Graft(list(zip(shapes, grafted, strict=True)), RECIPES["adam(lr=0.01)"], partial(SGD, lr=1.0))
    recorder = Recorder(graft)
    want = run(graft, grafted, rows)
    recorder.record()
    save_corrections(tmp_path / "found.yaml", discover(recorder.trajectory()))
    groups = corrections(list(zip(shapes, plain, strict=True)), tmp_path / "found.yaml", lr=1.0)
    optimizer = SGD(groups, momentum=0.9)
    assert torch.allclose(run(optimizer, plain, rows), want, rtol=1e-14, atol=1e-15)
    assert optimizer.param_groups[0]["param_names"] == ["a.weight"]


def test_corrections_of_pools(tmp_path):
    params = parameters()
    partition = "pattern(a='a.*', rest=None)"
    save_corrections(tmp_path / "pools.yaml", {"a": 2.0, "rest": 0.5}, partition)
    groups = corrections(named(params), tmp_path / "pools.yaml", lr=0.25)
    assert [(len(group["params"]), group["lr"]) for group in groups] == [(2, 0.5), (3, 0.125)]


def test_discovery_takes_medians_of_steps_with_a_direction():
    recorder, infos, _ = recorded(partition="pattern(full=['a.*', 'deep', 'scalar'], rest=None)")
    found = recorder.trajectory()
    with pytest.raises(ValueError, match="'rest' must have a step"):
        discover(found)
    ratios = [float(info.ratio[0]) for info in infos[:3]]
    part = trajectory.Trajectory(
        found.meta, found.steps, found.kept, found.weights, found.loss, {},
        {name: values[:, :1] for name, values in found.info.items()},
    )  # fmt: skip
    part.meta.groups.update(dict.fromkeys(part.info, ("full",)))
    assert discover(part, steps=3)["full"] == pytest.approx(np.median(ratios), rel=1e-14)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ({"a.weight": 1.0}, "has no factor"),
        ({**dict.fromkeys(SHAPES, 1.0), "a.wait": 1.0}, "did you mean 'a.weight'"),
        ({**dict.fromkeys(SHAPES, 1.0), "deep": -1.0}, "at least 0"),
        ({**dict.fromkeys(SHAPES, 1.0), "deep": float("inf")}, "finite"),
        ("factors: [1]\n", "must have the keys"),
        ("partition: axis(0)\nfactors: {deep: 1.0}\n", "whole tensors"),
        ("partition: 3\nfactors: {deep: 1.0}\n", "must be text"),
    ],
)
def test_mistakes_in_corrections(source, says, tmp_path):
    if isinstance(source, str):
        (tmp_path / "file.yaml").write_text(source)
        source = tmp_path / "file.yaml"
    with pytest.raises(ValueError) as found:
        corrections(named(parameters()), source, lr=1.0)
    assert says in str(found.value)
    assert "\n" not in str(found.value)
