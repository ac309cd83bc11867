"""The reference engine behind the line protocol, read from spec/protocol.md alone: ``answering.py [stateless]``."""

import json
import sys

import numpy as np

import graftsim
from graftsim import notation
from graftsim_conformance import claim
from graftsim_conformance.cases import settled
from graftsim_conformance.hexfloat import to_hex

STATELESS = "stateless" in sys.argv


def floats(values):
    return {name: float.fromhex(x) for name, x in values.items()}


def flat(lists, dtype):
    return np.array([float.fromhex(x) for part in lists for x in part], dtype)


class Run:
    def __init__(self, start):
        self.dtype = start["dtype"]
        shapes = dict(zip(start["names"], start["shapes"], strict=True))
        instance = settled(notation.parse(start["machine"]), floats(start["hyperparameters"]))
        self.program = graftsim.build(instance, shapes, dtype=self.dtype)
        self.engine = graftsim.Engine(self.program)
        self.weights, self.done = flat(start["weights"], self.dtype), 0
        self.state = self.engine.initial_state()
        for name, group in start["groups"].items():
            assert group["count"] > max(group["of"], default=-1), name

    def read(self, state):
        for path, value in state.items():
            nested = claim.by_tensor(self.program.slots[path].kind)
            self.state[path] = flat(value, self.dtype) if nested else flat([value], "float64")

    def lists(self, flat, shapes):
        return [[to_hex(x) for x in part.reshape(-1).tolist()] for part in claim.split(flat, shapes)]

    def shown(self):
        layout, kinds = self.program.layout, {path: slot.kind for path, slot in self.program.slots.items()}
        return {
            path: self.lists(value, claim.shapes(kinds[path], layout))
            if claim.by_tensor(kinds[path])
            else [to_hex(x) for x in value.tolist()]
            for path, value in self.state.items()
        }

    def step(self, request):
        shapes = self.program.layout.shapes
        gradients = [
            None if part is None else flat([part], self.dtype).reshape(shape)
            for part, shape in zip(request["gradients"], shapes, strict=True)
        ]
        out = self.engine.step(self.weights, gradients, self.state, request["step"], floats(request["hyperparameters"]))
        self.weights, self.state = out.weights, out.state
        info = {path: [to_hex(x) for x in value.tolist()] for path, value in out.info.items()}
        return {"message": "stepped", "weights": self.lists(out.weights, shapes), "state": self.shown(), "info": info}


def main():
    run = None
    for line in sys.stdin:
        request = json.loads(line)
        match request["message"]:
            case "hello":
                abilities = ["missing", "stateless" if STATELESS else "restore"]
                reply = {"message": "describe", "protocol": 1, "name": "the reference", "abilities": abilities}
                reply["dtypes"] = ["float64", "float32"]
            case "start":
                run = Run(request)
                reply = {"message": "ready", "state": run.shown()}
                run = None if STATELESS else run
            case "restore":
                run.read(request["state"])
                run.weights = flat(request["weights"], run.dtype)
                reply = {"message": "ready"}
            case "step":
                if STATELESS:
                    run = Run(request)
                    run.read(request["state"])
                reply = run.step(request)
            case "bye":
                return
        print(json.dumps(reply), flush=True)


main()
