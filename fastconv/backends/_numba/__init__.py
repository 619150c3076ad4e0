"""The kernels of the Numba backend; imported only when that backend is used.

The words, in ``words/``; no other code here handles vectors:

tile                  the words for arithmetic
square                the words for squares of pixels
residual              the words for a residual that is added in registers
stream                the words for runs of elements, and for memory that no cache keeps
lanewise              the words for channels that stay in their lanes
wide                  the words for sums of many terms
pointer               the words for memory: pointers and tables; for the work of a part
record                the words for a kernel's arguments

Kernels, written as their loops:

product               matrix product through tables: convolution and fully connected layers
gate                  a convolution's incoming and outgoing images, with what is fused to it
winograd              Winograd's convolution, forward and for the input gradient
winograd_transform    its transforms of patches, filters and tiles
winograd_gradient     weight gradient by Winograd's algorithm
conv_few_channels     input gradient of few channels
conv_sparse_gradient  weight gradient through ReLU and pooling, from the winners alone
grouped_depthwise     depthwise convolution and its gradients
grouped               convolution in groups, with any stride and dilation
pool, pool_average    max pooling and average pooling
move                  copies of numbers, perhaps scaled or in another dtype
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
                      and repeating recorded launches
"""
