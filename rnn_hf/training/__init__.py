"""What the scripts share: arguments, optimizers, checkpoints, metrics."""
