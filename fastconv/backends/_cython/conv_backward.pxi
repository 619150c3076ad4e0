# Backward of a convolution, alone or fused: both gradients through one gate, by the loops of
# conv_input_gradient, conv_few_channels, conv_weight_gradient, conv_sparse_gradient and winograd*.


def conv2d_backward(
    const real[:, :, :, ::1] dout,
    const real[:, :, :, ::1] x,
    const real[:, :, :, ::1] weight,
    real[:, :, :, ::1] dx,
    real[:, :, :, ::1] dweight,
    real[::1] dbias,
    ptrdiff_t stride,
    ptrdiff_t top,
    ptrdiff_t left,
    int for_input,
    int for_weight,
    int pairs,
    int threads,
):
    """Gradients of the inputs of `conv2d_forward`, each by its algorithm; dx or dweight may be None."""
    cdef Conv g = conv_of[real](
        x, weight, dout.shape[1], dout.shape[2], stride, top, left, pairs
    )
    cdef Incoming d = incoming(NO_GATE, g.n, g.oh, g.ow, g.fn, &dout[0, 0, 0, 0], NULL)
    if dx is not None:
        input_gradient[real](&g, &d, &weight[0, 0, 0, 0], &dx[0, 0, 0, 0], for_input, threads)
    if dweight is not None:
        weight_gradient[real](
            &g, &d, &x[0, 0, 0, 0], &dweight[0, 0, 0, 0], &dbias[0], for_weight, threads
        )


def conv2d_block_backward(
    const real[:, :, :, ::1] dout,
    const real[:, :, :, ::1] out,
    const unsigned char[:, :, :, ::1] winner,
    const real[:, :, :, ::1] x,
    const real[:, :, :, ::1] weight,
    real[:, :, :, ::1] dx,
    real[:, :, :, ::1] dweight,
    real[::1] dbias,
    ptrdiff_t oh,
    ptrdiff_t ow,
    ptrdiff_t stride,
    ptrdiff_t top,
    ptrdiff_t left,
    int for_input,
    int for_weight,
    int pairs,
    int threads,
):
    """`conv2d_backward` after a ReLU whose output is `out`, or after ReLU and pooling (winner)."""
    cdef Conv g = conv_of[real](x, weight, oh, ow, stride, top, left, pairs)
    cdef Incoming d
    if winner is None:
        d = incoming(RELU_GATE, g.n, oh, ow, g.fn, &dout[0, 0, 0, 0], &out[0, 0, 0, 0])
    else:
        d = incoming(POOL_GATE, g.n, oh, ow, g.fn, &dout[0, 0, 0, 0], &winner[0, 0, 0, 0])
    if dx is not None:
        input_gradient[real](&g, &d, &weight[0, 0, 0, 0], &dx[0, 0, 0, 0], for_input, threads)
    if dweight is not None:
        weight_gradient[real](
            &g, &d, &x[0, 0, 0, 0], &dweight[0, 0, 0, 0], &dbias[0], for_weight, threads
        )
