"""torch.optim's optimizers are what their dialects say, and nothing else."""

from __future__ import annotations

import json

import pytest
import torch

from graftsim.errors import GraftsimError
from graftsim_conformance import dialects
from graftsim_conformance.check import check
from graftsim_conformance.follow import ulps

ADAM = "torch.optim:Adam"
TARGETS = [
    f"torch.optim:{name}" for name in ("SGD", "Adagrad", "RMSprop", "Adam", "AdamW", "Adafactor", "SparseAdam", "Rprop")
]
CARRIED = {"t", "inner.t"}
"""SGD keeps no counter; what else a row does not read would be compared less strictly without anybody noticing."""


@pytest.mark.parametrize("target", TARGETS)
def test_equivalent_under_its_dialect(target):
    report = check(target)
    assert report.passed, "\n".join(report.lines())
    assert {row.variant for row in report.rows} == {row.variant for row in dialects.targets()[target].rows}
    for row in report.rows:
        assert row.cases == 6
        assert row.comparisons >= 700
        assert row.undecided == 0
        assert set(row.unread) <= (CARRIED if target == "torch.optim:SGD" else set())


WRONG = [
    # what is claimed, where it shows first, which step, the hint
    ("SGD", "momentum(form=lr_inside, first_step=copy)", "b", 1, "form=heavy_ball"),
    ("SGD", "momentum(form=ema, first_step=copy, dampening=0)", "b", 2, "form=heavy_ball"),
    ("SGD", "momentum(first_step=accumulate)", "b", 1, "first_step=copy"),
    ("SGD", "decay_decoupled(momentum(first_step=copy))", "inner.b", 1, "decay_in_gradient"),
    ("SGD", "momentum(first_step=copy, dampening=0.5)", "b", 2, "own defaults"),
    ("Adagrad", "adagrad(eps_placement=inside)", "weights", 1, "eps_placement=outside"),
    ("Adagrad", "adagrad(initial_accumulator=0.1)", "a", 0, "initial_accumulator_value=0"),
    ("Adagrad", "decay_decoupled(adagrad)", "inner.a", 1, "decay_in_gradient"),
    ("RMSprop", "rmsprop(eps_placement=inside)", "weights", 1, "eps_placement=outside"),
    ("RMSprop", "rmsprop(eps_placement=clamp)", "weights", 1, "eps_placement=outside"),
    ("RMSprop", "rmsprop(initial_accumulator=0.1)", "v", 1, "own defaults"),
    ("RMSprop", "rmsprop(momentum_form=lr_inside)", "b", 1, "momentum_form=heavy_ball"),
    ("RMSprop", "decay_decoupled(rmsprop)", "inner.v", 1, "decay_in_gradient"),
    ("Adam", "adam(eps_placement=hat)", "weights", 1, "eps_placement=corrected"),
    ("Adam", "adam(eps_placement=inside)", "weights", 1, "eps_placement=corrected"),
    ("Adam", "adam(eps_placement=clamp)", "weights", 1, "eps_placement=corrected"),
    ("Adam", "adam(eps=1e-7)", "weights", 1, "eps=1e-08"),
    ("Adam", "decay_decoupled(adam)", "inner.m", 1, "decay_in_gradient"),
    ("AdamW", "decay_in_gradient(adam)", "inner.m", 1, "decay_decoupled"),
    ("AdamW", "decay_in_gradient(adam(eps_placement=hat))", "inner.m", 1, "decay_decoupled, eps_placement=corrected"),
    ("Adafactor", "adafactor(eps1_placement=add, beta2_cap=1, least_size=0)", "r", 1, "eps1_placement=clamp"),
    ("Adafactor", "adafactor(eps1_placement=clamp, rate=plain, beta2_cap=1)", "weights", 4, "rate=minimum"),
    ("Adafactor", "adafactor(eps1_placement=clamp, beta2_cap=1, least_size=4)", "r", 1, "own defaults"),
    ("Adafactor", "decay_first(adafactor(eps1_placement=clamp, beta2_cap=1))", "weights", 1, "no other options"),
    ("SparseAdam", "adam(eps_placement=corrected)", "weights", 1, "eps_placement=hat"),
    ("Rprop", "rprop(form=late)", "before", 1, "form=immediate"),
]


@pytest.mark.parametrize(("name", "machine", "place", "step", "hint"), WRONG)
def test_not_equivalent_under_a_wrong_one(name, machine, place, step, hint):
    report = check(f"torch.optim:{name}", machine)
    assert not report.passed
    (row,) = report.rows
    failure = row.failure
    assert failure is not None
    assert (failure.place, failure.step) == (place, step)
    assert failure.case.endswith(".mixed")
    assert failure.units > 1e6
    assert failure.ulps > 1000
    assert failure.where.split("[")[0] in ("w", "b", "s")
    assert hint in row.hint


def test_defaults_can_be_claimed():
    """A written hyperparameter is left to the native's default; claiming the true default passes."""
    assert check(ADAM, "adam(eps=1e-8, beta1=0.9, beta2=0.999)").passed
    assert check("torch.optim:RMSprop", "rmsprop(rho=0.99, eps=1e-8)").passed
    assert not check("torch.optim:RMSprop", "rmsprop(rho=0.9)").passed


def test_decay_of_plain_descent_is_the_same_in_both_forms():
    assert check("torch.optim:SGD", "decay_decoupled(sgd)").passed


def test_a_report_for_people_names_the_place_and_the_equation():
    lines = check(ADAM, "adam(eps_placement=hat)").lines()
    text = "\n".join(lines)
    assert "case adam-corrected.mixed, at step 1, weights of b[4]" in text
    assert "the spec says: adam: delta = -(lr * quotient(m / c1, root))" in text
    assert "through: adam: root = (sqrt(v) + eps) / sqrt(c2)" in text
    assert "hint: it agrees with eps_placement=corrected" in text
    assert f"torch {torch.__version__}" in lines[0]
    assert lines[-1].startswith("NOT equivalent")


def test_a_report_for_programs_is_strict_json():
    report = check("torch.optim:Adagrad", "adagrad(initial_accumulator=0.1)")
    document = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert document["passed"] is False
    assert document["rows"][0]["failure"]["want"] == "0x1.999999999999ap-4"
    assert json.loads(json.dumps(check(ADAM).to_json(), allow_nan=False))["passed"] is True


# -- optimizers with the interface of Adam that are not Adam: what a port gets wrong -----------------------------------


class Port(torch.optim.Adam):
    """torch's Adam; what follows breaks it."""

    def broken(self, before):
        pass

    def step(self, closure=None):
        before = [tensor.clone() for tensor in self.param_groups[0]["params"]]
        super().step()
        self.broken(before)


class FirstTensorOnly(Port):
    def broken(self, before):
        for tensor, old in list(zip(self.param_groups[0]["params"], before, strict=True))[1:]:
            tensor.copy_(old)


class StepOffInTheTwelfthDigit(Port):
    def broken(self, before):
        for tensor, old in zip(self.param_groups[0]["params"], before, strict=True):
            tensor.copy_(old + (tensor - old) * (1 + 2.0**-40))


class FloatMoments(Port):
    def broken(self, before):
        for state in self.state.values():
            state["exp_avg"].copy_(state["exp_avg"].float())


class CounterStuck(Port):
    def broken(self, before):
        for state in self.state.values():
            state["step"].clamp_(max=3)


class LastEntryFrozen(Port):
    def broken(self, before):
        self.param_groups[0]["params"][1][-1] = before[1][-1]


class Silent(Port):
    def broken(self, before):
        self.param_groups[0]["params"][0][0, 0] = float("nan")


@pytest.mark.parametrize(
    ("port", "place", "step"),
    [
        ("FirstTensorOnly", "weights", 1),
        ("StepOffInTheTwelfthDigit", "weights", 1),
        ("FloatMoments", "m", 1),
        ("CounterStuck", "t", 4),
        ("LastEntryFrozen", "weights", 1),
        ("Silent", "weights", 1),
    ],
)
def test_broken_ports_are_found(port, place, step):
    report = check(f"{__name__}:{port}", "adam", like=ADAM)
    failure = report.rows[0].failure
    assert not report.passed
    assert failure is not None
    assert (failure.place, failure.step) == (place, step)


def test_an_unbroken_port_passes():
    assert check(f"{__name__}:Port", like=ADAM).passed


def test_state_that_cannot_be_read_is_carried_and_said():
    (row,) = check(f"{__name__}:Renamed", "adam", like=ADAM).rows
    assert row.passed
    assert row.unread == ("m",)
    assert any("not read from the candidate" in line for line in row.lines())
    (row,) = check(f"{__name__}:RenamedAndForgetful", "adam", like=ADAM).rows
    assert row.failure is not None
    assert (row.failure.place, row.failure.step) == ("weights", 4)


class Crash(Port):
    def broken(self, before):
        raise RuntimeError("a line\nand another")


class Renamed(Port):
    """State under other names cannot be read; it is carried, and the report says so."""

    def broken(self, before):
        for state in self.state.values():
            state["first"] = state.pop("exp_avg")

    def step(self, closure=None):
        for state in self.state.values():
            if "first" in state:
                state["exp_avg"] = state.pop("first")
        super().step(closure)


class Shrinking(Renamed):
    """State of another size than the weights."""

    def broken(self, before):
        super().broken(before)
        for state in self.state.values():
            state["exp_avg"] = state["first"].reshape(-1)[:1]


class RenamedAndForgetful(Renamed):
    """What cannot be read is still judged, by the weights."""

    def step(self, closure=None):
        super().step(closure)
        for state in self.state.values():
            if state["step"].max() == 3:
                state["first"].zero_()


@pytest.mark.parametrize(
    ("target", "machine", "like", "says"),
    [
        ("torch.optim", None, None, "module:attribute"),
        ("torch.optim:Adam:x", None, None, "module:attribute"),
        ("torch.optim:Adam()", None, None, "module:attribute"),
        ("torch.optim:Adan", None, None, "did you mean 'Adam'"),
        ("torch.optm:Adam", None, None, "torch.optm"),
        ("no_such_module:Adam", None, None, "no module 'no_such_module'"),
        ("torch.optim:ASGD", None, None, "torch.optim:Adam,"),
        ("torch:pi", None, None, "can be called"),
        (ADAM, "adamm", None, "did you mean 'adam'"),
        (ADAM, "sgd", None, "its machines are adam"),
        (ADAM, "adam#sgd", None, "its machines are adam"),
        (ADAM, "adam(lr=1 / step)", None, "must be a number"),
        (ADAM, None, "torch.optim:Adan", "torch.optim:Adam"),
        (f"{__name__}:Crash", None, ADAM, "a line and another"),
        (f"{__name__}:Shrinking", None, ADAM, "state m of the candidate must be 18 numbers"),
        ("math:sqrt", None, ADAM, "the candidate failed"),
    ],
)
def test_one_line_for_each_mistake(target, machine, like, says):
    with pytest.raises(GraftsimError) as found:
        check(target, machine, like)
    assert says in str(found.value)
    assert "\n" not in str(found.value)


def test_an_equation_is_said_by_the_machine_that_has_it():
    failure = check("torch.optim:AdamW", "decay_in_gradient(adam)").rows[0].failure
    assert failure.equation == "adam: m = beta1 * m + (1 - beta1) * g"
    assert failure.through == ("decay_in_gradient: inner.g = g + weight_decay * w",)


ROW = {
    "machine": "adam",
    "arguments": {"lr": "lr", "betas": ["beta1", "beta2"], "eps": "eps"},
    "state": {"m": "exp_avg"},
}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"machine": "adamm"}, "did you mean 'adam'"),
        ({"machine": "adam(eps=0.5)"}, "'eps' differs"),
        ({"arguments": {"lr": "lr", "eps": "eps"}}, "'beta1' differs"),
        ({"arguments": {**ROW["arguments"], "weight_decay": "weight_decay"}}, "'weight_decay' differs"),
        ({"state": {"n": "exp_avg"}}, "no state 'n'"),
        ({"state": {"m": "--exp_avg"}}, "--exp_avg"),
        ({"flags": {}}, "flags"),
    ],
)
def test_a_dialect_must_fit_its_machine(changes, says):
    row = ROW | changes
    document = {
        "framework": "torch",
        "distributions": ["torch"],
        "targets": {"torch.optim:X": {"rows": {"plain": row}}},
    }
    with pytest.raises(GraftsimError, match="here") as found:
        dialects.read(document, "here")
    assert says in str(found.value)


def test_distances_in_ulps():
    assert ulps(1.0, 1.0 + 2**-52) == 1 == ulps(5e-324, 0.0)
    assert ulps(-5e-324, 5e-324) == 2
    assert ulps(-0.0, 0.0) == 0
    assert ulps(float("nan"), 1.0) is None
