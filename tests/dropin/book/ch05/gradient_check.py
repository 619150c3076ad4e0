import os
import sys

sys.path.append(os.pardir)
import numpy as np
from dataset.mnist import load_mnist
from two_layer_net import TwoLayerNet

np.random.seed(1)  # with 0, a unit is so near its kink that differences step over it
(x_train, t_train), _ = load_mnist(normalize=True, one_hot_label=True)
network = TwoLayerNet(input_size=784, hidden_size=3, output_size=10)
x_batch, t_batch = x_train[:3], t_train[:3]

by_differences = network.numerical_gradient(x_batch, t_batch)
by_backward = network.gradient(x_batch, t_batch)
for key in by_backward:
    print(key, "|gradient|", np.abs(by_backward[key]).mean())
    print(key, "agrees to 1e-6:", np.abs(by_backward[key] - by_differences[key]).mean() < 1e-6)
