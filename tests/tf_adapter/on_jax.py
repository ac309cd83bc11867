"""What holds with JAX alone: the stateless interface, under ``jit``."""

import jax
import numpy as np
from jax import numpy as jnp

from graftsim_tf import Graft
from tests.tf_adapter.variables import adam, follow, gradients, made, run, sgd, split, tensors, weights


def check_stateless_steps_are_the_reference() -> None:
    optimizer = Graft(sgd(0.5, momentum=0.75), sgd(0.25), partition="row")
    follow(
        "graft(momentum(lr=0.5, momentum=0.75, form=lr_inside), sgd(lr=0.25), partition=row)",
        optimizer,
        "float32",
        stateless(optimizer),
    )


def stateless(optimizer):
    """The function ``apply`` made of a jitted stateless one."""

    def compiled(_):
        step = jax.jit(optimizer.stateless_apply)

        def apply(*grads):
            before = [v.value for v in optimizer._trainable_variables]
            moved, state = step([v.value for v in optimizer.variables], list(grads), before)
            for variable, value in zip(
                [*optimizer._trainable_variables, *optimizer.variables], [*moved, *state], strict=True
            ):
                variable.assign(value)

        return apply

    return compiled


def check_stateless_steps_are_the_others() -> None:
    for options in ({}, {"gradient_accumulation_steps": 2}, {"use_ema": True, "ema_overwrite_frequency": 2}):
        optimizer, variables = Graft(adam(0.125), sgd(1.0), **options), made(weights())
        optimizer.build(variables)
        moved, state = [v.value for v in variables], [v.value for v in optimizer.variables]
        for gradient in gradients():
            moved, state = jax.jit(optimizer.stateless_apply)(state, tensors(gradient), moved)
        assert all(part.dtype == jnp.float32 for part in moved)
        got, want = np.concatenate([np.ravel(part) for part in moved]), run(Graft(adam(0.125), sgd(1.0), **options))
        # bias correction in float32, contracted differently under jit: 1 - 0.999 has 2^-14 of its digits left
        assert np.allclose(got, want, rtol=1e-3, atol=1e-4), options
        assert len(split(weights())) == 5
