"""The kernels of the Numba backend; imported only when that backend is used.

The words, and the only files that know vectors:

tile                the words for arithmetic
square              the words for squares of pixels
runs                the words for runs of elements
lanewise            the words for channels that stay in their lanes
pointer             the words for memory: pointers, tables, a kernel's arguments

Kernels, which read as their loops:

product             matrix product through tables: convolution and fully connected layers
gate                what reaches and leaves a convolution, with what follows it
winograd            Winograd's convolution, forward and for the input gradient
winograd_transform  its transforms of patches, filters and tiles
winograd_gradient   weight gradient by Winograd's algorithm
sparse              weight gradient behind ReLU and pooling, from the winners alone
depthwise           depthwise convolution and its gradients
grouped             convolution in groups, with any stride and dilation
pool                max pooling
columns             im2col and its adjoint
activations         activations of one formula
lrn                 local response normalisation
dense               elementwise, batch normalisation, softmax with cross-entropy, Adam

Calls of kernels:

conv                convolutions and fully connected layers, forward and input gradient
weight_gradient     weight gradients, by the algorithm
plan                the tables of offsets of a convolution
tiling              how the tiles of a Winograd convolution are cut into blocks
memory              arrays as addresses, and memory to work in
machine             how wide vectors are here, and which tile fits
build               from a kernel to its machine code, compiled once
store               machine code on disk
team                kernels on one thread or many
"""
