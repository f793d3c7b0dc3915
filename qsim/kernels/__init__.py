"""Every jitted function of qsim: arrays in, arrays out, no Python objects.

`hashing`: random numbers from counters. `lanes`: LLVM vectors. `quantize`: norms and levels. `csr`: margins, slopes
and gradients of sparse rows. `sampling`: mini-batches. `support`: the columns each worker holds. `varint`: LEB128
messages. `vectors`: sums and checks of batches of vectors.
"""
