"""From batches to a trained model: arguments, optimizers, checkpoints, metrics."""
