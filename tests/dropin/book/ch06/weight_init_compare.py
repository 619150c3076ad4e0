import os
import sys

sys.path.append(os.pardir)
import numpy as np
from common.multi_layer_net import MultiLayerNet
from common.optimizer import SGD
from dataset.mnist import load_mnist

np.random.seed(0)
(x_train, t_train), (x_test, t_test) = load_mnist(normalize=True)

kinds = {"std=0.01": 0.01, "Xavier": "sigmoid", "He": "relu"}
networks = {key: MultiLayerNet(784, [30, 30, 30], 10, weight_init_std=kinds[key]) for key in kinds}
optimizer = SGD(lr=0.05)

for i in range(41):
    chosen = np.random.choice(len(x_train), 50)
    for key, network in networks.items():
        grads = network.gradient(x_train[chosen], t_train[chosen])
        optimizer.update(network.params, grads)
    if i % 20 == 0:
        for key, network in networks.items():
            print(key + ":" + str(network.loss(x_train[chosen], t_train[chosen])))

for key, network in networks.items():
    print(key, "test acc", network.accuracy(x_test, t_test))
