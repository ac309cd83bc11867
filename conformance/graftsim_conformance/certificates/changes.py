"""What changes from one certificate to another, in what they claim.

Compared are: target, kind, mode, dtype, backend, edition and budget; the machines; for each of them whether state was
compared, which could not be read and which is kept in float32; the cases in each mode and of the composition, and how
many values were looked at in each; the laws; and what is not supported, with the reason. All that is on paper passed,
so the verdicts are the same where the cases are.

Not compared are versions, Python and device, which say where it was shown; the errors, which differ between processors
in the last bits and are within the budget on both sides (:func:`graftsim_conformance.certificate.read` and
:func:`~graftsim_conformance.certificate.refusal` see to it); and with them whether a case came out exact, and how many
values had no finite bound. A profile may be given up: a claim then holds under less, and one more is a change.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

SHOWN = 5
"""How many names a line has of what came or went."""
WHOLE = ("target", "kind", "mode", "dtype", "budget", "spec")


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """One line for each change from the committed certificate to the renewed one."""
    return [*_whole(old, new), *_claims(old, new)]


def _whole(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    pairs = [(name, old[name], new[name]) for name in WHOLE]
    pairs.append(("backend", old["device"]["backend"], new["device"]["backend"]))
    yield from (f"{name} was {a!r} and is {b!r}" for name, a, b in pairs if a != b)


def _claims(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    first, second = ({(one["machine"], one["variant"]): one for one in document["claims"]} for document in (old, new))
    yield from _names(
        "", {key[0] for key in first.keys() - second.keys()}, {key[0] for key in second.keys() - first.keys()}
    )
    for key in first.keys() & second.keys():
        yield from (f"{key[0]}: {line}" for line in _claim(first[key], second[key]))


def _claim(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    for name in ("state", "unread", "float32"):
        if old[name] != new[name]:
            yield f"{name} was {old[name]!r} and is {new[name]!r}"
    if more := _profiles(new) - _profiles(old):
        yield f"passes only under {' and '.join(sorted(more))} now"
    first, second = dict(_parts(old)), dict(_parts(new))
    for part in dict.fromkeys([*first, *second]):
        a, b = first.get(part, {}), second.get(part, {})
        yield from _names(f"{part}: ", a.keys() - b.keys(), b.keys() - a.keys())
        for name in sorted(a.keys() & b.keys()):
            if a[name] != b[name]:
                yield f"{part}: {name}: was {a[name]} and is {b[name]}"


def _profiles(claim: Mapping[str, Any]) -> set[str]:
    return set(filter(None, claim["profile"].split(" and ")))


def _parts(claim: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, str]]]:
    """The parts of a claim: for each name in it what must be the same."""
    for part, cases in {**claim["recipes"], "composition": claim["composition"]}.items():
        yield part, {name: f"{values + undecided} values" for name, (_, values, undecided) in cases.items()}
    yield "laws", dict.fromkeys(claim["laws"], "")
    rows = {(row["mode"], case): row["reason"] for row in claim["not_supported"] for case in row["cases"]}
    yield "not supported", {f"{case}, {mode}": reason for (mode, case), reason in rows.items()}


def _names(prefix: str, gone: set[str], come: set[str]) -> Iterator[str]:
    for names, word in ((gone, "no longer there"), (come, "new")):
        if names:
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            yield f"{prefix}{word}: {', '.join(sorted(names)[:SHOWN])}{more}"
