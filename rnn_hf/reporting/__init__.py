"""What a person reads: progress, errors, model cards."""
