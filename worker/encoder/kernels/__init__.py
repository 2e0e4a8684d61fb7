"""Triton and CUDA kernels over flat tokens; imported only where there is a CUDA GPU."""
