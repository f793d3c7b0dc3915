"""Every jitted function of qsim: arrays in, arrays out, no Python objects.

Data: `libsvm`: text to rows. `csr`: margins, slopes and gradients of sparse rows; `multiclass`: the same for several
classes. `local_sgd`: many small steps of SGD. `sampling`: mini-batches. `support`: the columns each worker holds.
`vectors`: sums and checks of batches of vectors. `link_queue`: messages that wait for a link.

Compressors: `hashing`: random numbers from counters. `simd`, `tiles`: LLVM vectors. `quantize`, `norms`: norms and
levels. `powers`: levels that are powers of two. `dither`: subtractive dither. `half_precision`: 16-bit floats.
`buckets`: rows cut into buckets. `select`, `bernoulli`: sparsifiers. `signs`: signs and means. `hadamard`,
`rotations`: rotations.

Codecs: `bits`: words of 64 bits in bytes. `decode_status`: why packets are refused. `prefix`: the floats that a packet
begins with. `varint`: LEB128. `bitcodes`: Elias and Golomb-Rice codes. `packing`, `bitmap`, `elias_dense`: codes of
every coordinate. `rans`, `frequencies`: asymmetric numeral systems.
"""
