import os
import sys

sys.path.append(os.pardir)
import numpy as np
from common.layers import *


class DeepConvNet:
    """Three blocks of conv - relu - conv - relu - pool, then affine - relu - dropout - affine."""

    def __init__(self, filters=(16, 16, 32, 32, 64, 64), hidden_size=50, output_size=10):
        self.params = {}
        self.layers = []
        channels = 1
        for i, count in enumerate(filters, start=1):
            self._draw(i, (count, channels, 3, 3), fan_in=channels * 9, units=count)
            pad = 2 if i == 4 else 1
            conv = Convolution(self.params[f"W{i}"], self.params[f"b{i}"], stride=1, pad=pad)
            self.layers += [conv, Relu()]
            if i % 2 == 0:
                self.layers.append(Pooling(pool_h=2, pool_w=2, stride=2))
            channels = count
        # 28 pixels, halved to 14, grown to 16 by the wide padding, halved to 8 and to 4
        features = channels * 4 * 4
        self._draw(7, (features, hidden_size), fan_in=features, units=hidden_size)
        self._draw(8, (hidden_size, output_size), fan_in=hidden_size, units=output_size)
        self.layers += [Affine(self.params["W7"], self.params["b7"]), Relu(), Dropout(0.5)]
        self.layers += [Affine(self.params["W8"], self.params["b8"]), Dropout(0.5)]
        self.weighted = [layer for layer in self.layers if hasattr(layer, "W")]
        self.last_layer = SoftmaxWithLoss()

    def _draw(self, i, shape, fan_in, units):
        self.params[f"W{i}"] = np.sqrt(2.0 / fan_in) * np.random.randn(*shape)
        self.params[f"b{i}"] = np.zeros(units)

    def predict(self, x, train_flg=False):
        for layer in self.layers:
            if isinstance(layer, Dropout):
                x = layer.forward(x, train_flg)
            else:
                x = layer.forward(x)
        return x

    def loss(self, x, t):
        return self.last_layer.forward(self.predict(x, train_flg=True), t)

    def accuracy(self, x, t, batch_size=100):
        correct = 0
        for i in range(0, len(x), batch_size):
            y = np.argmax(self.predict(x[i : i + batch_size]), axis=1)
            correct += np.sum(y == t[i : i + batch_size])
        return correct / len(x)

    def gradient(self, x, t):
        self.loss(x, t)
        dout = self.last_layer.backward(1)
        for layer in reversed(self.layers):
            dout = layer.backward(dout)
        grads = {}
        for i, layer in enumerate(self.weighted, start=1):
            grads[f"W{i}"], grads[f"b{i}"] = layer.dW, layer.db
        return grads
