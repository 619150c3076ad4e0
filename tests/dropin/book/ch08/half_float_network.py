import os
import sys

sys.path.append(os.pardir)
sys.path.append(os.path.join(os.pardir, "ch07"))
import numpy as np
from common.optimizer import Adam
from dataset.mnist import load_mnist
from simple_convnet import SimpleConvNet

np.random.seed(0)
(x_train, t_train), (x_test, t_test) = load_mnist(flatten=False)
network = SimpleConvNet(
    conv_param={"filter_num": 4, "filter_size": 5, "pad": 0, "stride": 1}, hidden_size=20
)
optimizer = Adam(lr=0.005)
for _ in range(10):
    chosen = np.random.choice(len(x_train), 50)
    optimizer.update(network.params, network.gradient(x_train[chosen], t_train[chosen]))
network.save_params("params.pkl")

network.load_params("params.pkl")
print("double precision:", network.accuracy(x_test, t_test))

for key, val in network.params.items():
    network.params[key] = val.astype(np.float16)
for i, key in enumerate(("Conv1", "Affine1", "Affine2"), 1):
    network.layers[key].W = network.params["W" + str(i)]
    network.layers[key].b = network.params["b" + str(i)]
print("half precision:", network.accuracy(x_test.astype(np.float16), t_test))
