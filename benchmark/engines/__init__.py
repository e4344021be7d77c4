"""Ways to run a model's forwards faster than PyTorch does eagerly: one a file, each compared with eager answers first."""
