"""Search of hyperparameters with equal budgets, and what grafting transfers from one optimizer to another."""
