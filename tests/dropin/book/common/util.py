"""Columns of images, and small helpers."""

import numpy as np


def smooth_curve(x):
    n = 11
    s = np.r_[x[n - 1 : 0 : -1], x, x[-1:-n:-1]]
    w = np.kaiser(n, 2)
    y = np.convolve(w / w.sum(), s, mode="valid")
    return y[5:-5]


def shuffle_dataset(x, t):
    order = np.random.permutation(len(x))
    return x[order], t[order]


def conv_output_size(input_size, filter_size, stride=1, pad=0):
    return (input_size + 2 * pad - filter_size) / stride + 1


def im2col(input_data, filter_h, filter_w, stride=1, pad=0):
    n, c, h, w = input_data.shape
    oh = (h + 2 * pad - filter_h) // stride + 1
    ow = (w + 2 * pad - filter_w) // stride + 1
    padded = np.pad(input_data, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    col = np.zeros((n, oh, ow, c, filter_h, filter_w))
    for fy in range(filter_h):
        for fx in range(filter_w):
            taken = padded[:, :, fy : fy + stride * oh : stride, fx : fx + stride * ow : stride]
            col[..., fy, fx] = taken.transpose(0, 2, 3, 1)
    return col.reshape(n * oh * ow, c * filter_h * filter_w)


def col2im(col, input_shape, filter_h, filter_w, stride=1, pad=0):
    n, c, h, w = input_shape
    oh = (h + 2 * pad - filter_h) // stride + 1
    ow = (w + 2 * pad - filter_w) // stride + 1
    col = col.reshape(n, oh, ow, c, filter_h, filter_w)
    padded = np.zeros((n, c, h + 2 * pad, w + 2 * pad))
    for fy in range(filter_h):
        for fx in range(filter_w):
            place = padded[:, :, fy : fy + stride * oh : stride, fx : fx + stride * ow : stride]
            place += col[..., fy, fx].transpose(0, 3, 1, 2)
    return padded[:, :, pad : pad + h, pad : pad + w]
