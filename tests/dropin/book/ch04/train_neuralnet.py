import os
import sys

sys.path.append(os.pardir)
import numpy as np
from dataset.mnist import load_mnist
from two_layer_net import TwoLayerNet

np.random.seed(0)
(x_train, t_train), (x_test, t_test) = load_mnist(normalize=True, one_hot_label=True)
network = TwoLayerNet(input_size=784, hidden_size=20, output_size=10)

for i in range(200):
    chosen = np.random.choice(len(x_train), 50)
    grad = network.gradient(x_train[chosen], t_train[chosen])
    for key in ("W1", "b1", "W2", "b2"):
        network.params[key] -= 0.5 * grad[key]
    if i % 40 == 0:
        print("loss", network.loss(x_train[chosen], t_train[chosen]))
        print(
            "train acc, test acc | "
            + str(network.accuracy(x_train, t_train))
            + ", "
            + str(network.accuracy(x_test, t_test))
        )
