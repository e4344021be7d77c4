"""Ways to compute a frozen model's answers faster than eager PyTorch: one a file, each compared with it first."""
