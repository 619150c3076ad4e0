"""Convolution and pooling as sums over the places of a window, under dezero's names."""

import numpy as np


def pair(number):
    return number if isinstance(number, tuple) else (number, number)


def get_conv_outsize(size, window, stride, pad):
    return (size - window + 2 * pad) // stride + 1


def get_deconv_outsize(size, window, stride, pad):
    return (size - 1) * stride - 2 * pad + window


class Function:
    def __call__(self, *inputs):
        self.inputs = inputs
        return self.forward(*inputs)


def places(kernel_size, stride, count):
    for k in np.ndindex(*pair(kernel_size)):
        s = pair(stride)
        yield k, tuple(slice(k[i], k[i] + s[i] * count[i], s[i]) for i in (0, 1))


def counted(shape, kernel_size, stride, pad):
    sizes = zip(shape[2:], pair(kernel_size), pair(stride), pair(pad), strict=True)
    return tuple(get_conv_outsize(*numbers) for numbers in sizes)


def im2col_array(img, kernel_size, stride, pad, to_matrix=True):
    n, c = img.shape[:2]
    count = counted(img.shape, kernel_size, stride, pad)
    padded = np.pad(img, ((0, 0), (0, 0), *((p, p) for p in pair(pad))))
    col = np.zeros((n, c, *pair(kernel_size), *count), img.dtype)
    for (i, j), place in places(kernel_size, stride, count):
        col[:, :, i, j] = padded[(..., *place)]
    if to_matrix:
        return col.transpose(0, 4, 5, 1, 2, 3).reshape(n * count[0] * count[1], -1)
    return col


def col2im_array(col, img_shape, kernel_size, stride, pad, to_matrix=True):
    n, c, h, w = img_shape
    count = counted(img_shape, kernel_size, stride, pad)
    if to_matrix:
        col = col.reshape(n, *count, c, *pair(kernel_size)).transpose(0, 3, 4, 5, 1, 2)
    ph, pw = pair(pad)
    padded = np.zeros((n, c, h + 2 * ph, w + 2 * pw), col.dtype)
    for (i, j), place in places(kernel_size, stride, count):
        padded[(..., *place)] += col[:, :, i, j]
    return padded[:, :, ph : ph + h, pw : pw + w]


class Conv2d(Function):
    def __init__(self, stride=1, pad=0):
        self.stride = pair(stride)
        self.pad = pair(pad)

    def forward(self, x, W, b):
        col = im2col_array(x, W.shape[2:], self.stride, self.pad, to_matrix=False)
        y = np.einsum("ncklij,fckl->nfij", col, W)
        return y if b is None else y + b.reshape(-1, 1, 1)


class Deconv2d(Function):
    def __init__(self, stride=1, pad=0, outsize=None):
        self.stride = pair(stride)
        self.pad = pair(pad)
        self.outsize = outsize

    def forward(self, x, W, b):
        size = self.outsize
        if size is None:
            numbers = zip(x.shape[2:], W.shape[2:], self.stride, self.pad, strict=True)
            size = tuple(get_deconv_outsize(*each) for each in numbers)
        col = np.einsum("nfij,fckl->ncklij", x, W)
        shape = (len(x), W.shape[1], *pair(size))
        y = col2im_array(col, shape, W.shape[2:], self.stride, self.pad, to_matrix=False)
        return y if b is None else y + b.reshape(-1, 1, 1)


class Conv2DGradW(Function):
    def __init__(self, conv2d):
        self.kernel_size = conv2d.inputs[1].shape[2:]
        self.stride = conv2d.stride
        self.pad = conv2d.pad

    def forward(self, x, gy):
        col = im2col_array(x, self.kernel_size, self.stride, self.pad, to_matrix=False)
        return np.einsum("ncklij,nfij->fckl", col, gy)


class Pooling(Function):
    def __init__(self, kernel_size, stride=1, pad=0):
        self.kernel_size = kernel_size
        self.stride = stride
        self.pad = pad

    def forward(self, x):
        col = im2col_array(x, self.kernel_size, self.stride, self.pad, to_matrix=False)
        flat = col.reshape(*col.shape[:2], -1, *col.shape[4:])
        self.indexes = flat.argmax(axis=2)
        return flat.max(axis=2)


class Pooling2DGrad(Function):
    def __init__(self, mpool2d):
        self.mpool2d = mpool2d
        self.kernel_size = mpool2d.kernel_size
        self.stride = mpool2d.stride
        self.pad = mpool2d.pad
        self.input_shape = mpool2d.inputs[0].shape
        self.indexes = mpool2d.indexes

    def forward(self, gy):
        kh, kw = pair(self.kernel_size)
        number = np.arange(kh * kw).reshape(1, 1, -1, 1, 1)
        col = np.where(self.indexes[:, :, None] == number, gy[:, :, None], 0)
        col = col.reshape(*gy.shape[:2], kh, kw, *gy.shape[2:])
        shape, window = self.input_shape, self.kernel_size
        return col2im_array(col, shape, window, self.stride, self.pad, to_matrix=False)
