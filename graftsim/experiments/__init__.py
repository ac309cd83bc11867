"""Experiments on optimizers: many training runs as jobs, what they show, and how it is drawn."""
