"""Judging a candidate that speaks the spec's own names, on the cases of a machine."""

from graftsim import notation
from graftsim_conformance import golden
from graftsim_conformance.cases import in_dtype
from graftsim_conformance.judge import judge


def judged(candidate, machine, cases=None, dtype=None, **more):
    instance = notation.parse(machine)
    posed = golden.of_machine(instance) if cases is None else cases
    return judge(lambda: candidate, instance, [in_dtype(case, dtype or case.dtype) for case in posed], **more)
