"""Every jitted function of qsim: arrays in, arrays out, no Python objects.

Data: `libsvm`: text to rows. `csr`: margins, slopes and gradients of sparse rows. `walks`: many small steps of SGD.
`sampling`: mini-batches. `support`: the columns each worker holds. `vectors`: sums and checks of batches of vectors.

Compressors: `hashing`: random numbers from counters. `lanes`, `strips`: LLVM vectors. `quantize`, `norms`: norms and
levels. `powers`: levels that are powers of two. `dither`: subtractive dither. `halves`: 16-bit floats. `buckets`: rows
cut into buckets. `select`, `chances`: sparsifiers. `signs`: signs and means. `hadamard`, `rotations`: rotations.

Codecs: `words`: words of 64 bits in bytes. `reasons`: why packets are refused. `fronts`: the floats in front. `varint`:
LEB128. `bitcodes`: Elias and Golomb-Rice codes. `packing`, `bitmap`, `elias_dense`: codes of every coordinate. `rans`,
`frequencies`: asymmetric numeral systems.
"""
