"""What kernels compute, in plain Python: slow, obvious, written from the specification and not from the kernels.

A module is named after the kernel module that it is an oracle for. Two are for others: `topologies` and `delays`, for
the modules of `qsim.network` with these names.
"""
