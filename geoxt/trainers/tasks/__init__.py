"""Tasks: how each kind finds its target in a batch, which losses train it and how it is scored."""
