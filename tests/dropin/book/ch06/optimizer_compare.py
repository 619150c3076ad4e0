import os
import sys

sys.path.append(os.pardir)
import numpy as np
from common.multi_layer_net import MultiLayerNet
from common.optimizer import *
from common.util import smooth_curve
from dataset.mnist import load_mnist

np.random.seed(0)
(x_train, t_train), (x_test, t_test) = load_mnist(normalize=True)

optimizers = {
    "SGD": SGD(),
    "Momentum": Momentum(),
    "Nesterov": Nesterov(),
    "AdaGrad": AdaGrad(),
    "RMSprop": RMSprop(lr=0.001),
    "Adam": Adam(),
}
networks, train_loss = {}, {}
for key in optimizers:
    networks[key] = MultiLayerNet(784, [20, 20, 20], 10)
    train_loss[key] = []

for i in range(30):
    chosen = np.random.choice(len(x_train), 32)
    x_batch, t_batch = x_train[chosen], t_train[chosen]
    for key in optimizers:
        grads = networks[key].gradient(x_batch, t_batch)
        optimizers[key].update(networks[key].params, grads)
        train_loss[key].append(networks[key].loss(x_batch, t_batch))
    if i % 10 == 0:
        print("=========== iteration:" + str(i) + " ===========")
        for key in optimizers:
            print(key + ":" + str(train_loss[key][-1]))

for key in optimizers:
    print(key, "smoothed", smooth_curve(train_loss[key])[-1])
