"""Fully connected layers with batch normalisation and dropout."""

from collections import OrderedDict

import numpy as np
from common.layers import *
from common.multi_layer_net import MultiLayerNet


class MultiLayerNetExtend(MultiLayerNet):
    def __init__(
        self,
        input_size,
        hidden_size_list,
        output_size,
        activation="relu",
        weight_init_std="relu",
        weight_decay_lambda=0,
        use_dropout=False,
        dropout_ration=0.5,
        use_batchnorm=False,
    ):
        super().__init__(
            input_size,
            hidden_size_list,
            output_size,
            activation,
            weight_init_std,
            weight_decay_lambda,
        )
        self.use_batchnorm = use_batchnorm
        plain, self.layers = self.layers, OrderedDict()
        for i in range(1, self.depth + 1):
            self.layers["Affine" + str(i)] = plain["Affine" + str(i)]
            if i == self.depth:
                break
            if use_batchnorm:
                size = self.sizes[i]
                self.params["gamma" + str(i)] = np.ones(size)
                self.params["beta" + str(i)] = np.zeros(size)
                self.layers["BatchNorm" + str(i)] = BatchNormalization(
                    self.params["gamma" + str(i)], self.params["beta" + str(i)]
                )
            self.layers["Activation" + str(i)] = plain["Activation" + str(i)]
            if use_dropout:
                self.layers["Dropout" + str(i)] = Dropout(dropout_ration)

    def predict(self, x, train_flg=False):
        for key, layer in self.layers.items():
            if "Dropout" in key or "BatchNorm" in key:
                x = layer.forward(x, train_flg)
            else:
                x = layer.forward(x)
        return x

    def loss(self, x, t, train_flg=False):
        decay = 0
        for i in range(1, self.depth + 1):
            decay += 0.5 * self.weight_decay_lambda * np.sum(self.params["W" + str(i)] ** 2)
        return self.last_layer.forward(self.predict(x, train_flg), t) + decay

    def gradient(self, x, t):
        self.loss(x, t, train_flg=True)
        dout = self.last_layer.backward(1)
        for layer in reversed(list(self.layers.values())):
            dout = layer.backward(dout)
        grads = {}
        for i in range(1, self.depth + 1):
            affine = self.layers["Affine" + str(i)]
            grads["W" + str(i)] = affine.dW + self.weight_decay_lambda * affine.W
            grads["b" + str(i)] = affine.db
            if self.use_batchnorm and i != self.depth:
                grads["gamma" + str(i)] = self.layers["BatchNorm" + str(i)].dgamma
                grads["beta" + str(i)] = self.layers["BatchNorm" + str(i)].dbeta
        return grads
