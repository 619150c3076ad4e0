"""The kernels of the Numba backend; imported only when that backend is used.

The words, in ``words/``, which alone know vectors:

tile                  the words for arithmetic
square                the words for squares of pixels
residual              the words for a residual that is added in registers
stream                the words for runs of elements, and for memory that no cache keeps
lanewise              the words for channels that stay in their lanes
wide                  the words for sums of many terms
pointer               the words for memory: pointers, tables, a kernel's arguments

Kernels, which read as their loops:

product               matrix product through tables: convolution and fully connected layers
gate                  what reaches and leaves a convolution, with what follows it
winograd              Winograd's convolution, forward and for the input gradient
winograd_transform    its transforms of patches, filters and tiles
winograd_gradient     weight gradient by Winograd's algorithm
conv_few_channels     input gradient of few channels
conv_sparse_gradient  weight gradient behind ReLU and pooling, from the winners alone
grouped_depthwise     depthwise convolution and its gradients
grouped               convolution in groups, with any stride and dilation
pool, pool_average    max pooling and average pooling
move                  numbers to another place
columns               im2col and its adjoint
activation            activations
norm, norm_images     batch normalisation of features, and per channel
norm_response         local response normalisation
loss                  softmax with cross-entropy
updates               Adam's step
augment               warps, smoothing and tone

Calls of kernels:

conv                  convolutions and fully connected layers, forward and input gradient
conv_weight_gradient  weight gradients, by the algorithm
offsets               the tables of offsets of a convolution
winograd_tiling       how the tiles of a Winograd convolution are cut into blocks
ways                  which ways calls took, read from what ran
launch                compiling kernels, keeping them on disk, running them on a team of threads,
                      and running again what it has recorded
"""
