"""The training loop: fit, callbacks, resume from checkpoints, optimizers and determinism."""
