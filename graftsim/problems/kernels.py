"""Gradients and losses of problems as compiled functions, for runs in one compiled loop.

Each is what the problem's own methods compute, operation by operation; the run's dtype is that of ``w`` and ``g``, all
arithmetic is float64, and a gradient is rounded once. ``data`` is what the problem's ``kernel`` names. Only generated
modules import this file.
"""

from __future__ import annotations

from graftsim.fast_rounding import compiled


@compiled
def diagonal_gradient(w, g, data):
    """g = eigenvalues * w."""
    for i in range(w.size):
        g[i] = data[i] * float(w[i])


@compiled
def diagonal_loss(w, data):
    """The sum of eigenvalue_i w_i^2, halved, from the first to the last."""
    total = 0.0
    for i in range(w.size):
        total += data[i] * float(w[i]) * float(w[i])
    return 0.5 * total
