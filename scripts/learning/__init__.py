"""What every training shares: checkpoints, sampling, distribution, logs, loading."""
