"""The kernels of the Numba backend; imported only when that backend is used.

tile      the words for arithmetic: the only file that knows vectors
pointer   the words for memory: pointers, tables, a kernel's arguments
product   matrix product through tables: convolution and fully connected layers
sparse    weight gradient behind ReLU and pooling, from the winners alone
winograd_gradient   weight gradient by Winograd's algorithm
pool      max pooling
columns   im2col and its adjoint
dense     elementwise, batch normalisation, softmax with cross-entropy, Adam
plan      the tables of offsets of a convolution
machine   how wide vectors are here, and which tile fits
build     from a kernel to its machine code, compiled once and kept on disk
team      kernels on one thread or many
weight_gradient     weight gradients as calls of kernels, by the algorithm
"""
