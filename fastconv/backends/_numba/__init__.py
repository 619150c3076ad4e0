"""The kernels of the Numba backend; imported only when that backend is used.

tile      the vocabulary of vectors and pointers, and the only file that knows either
build     from a kernel to its address: compile, keep on disk, call on one thread or many
product   matrix product through tables of offsets: convolution and fully connected layers
pool      max pooling
columns   im2col and its adjoint
dense     elementwise, batch normalisation, softmax with cross-entropy, Adam
"""
