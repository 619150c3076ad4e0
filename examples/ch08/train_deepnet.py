import os
import sys

sys.path.append(os.pardir)
import numpy as np
from common.trainer import Trainer
from dataset.mnist import load_mnist
from deep_convnet import DeepConvNet

np.random.seed(0)
(x_train, t_train), (x_test, t_test) = load_mnist(flatten=False)
# Fewer digits: all of them take hours in plain NumPy.
x_train, t_train = x_train[:1000], t_train[:1000]
x_test, t_test = x_test[:200], t_test[:200]

network = DeepConvNet()
trainer = Trainer(
    network,
    x_train,
    t_train,
    x_test,
    t_test,
    epochs=2,
    mini_batch_size=100,
    optimizer="Adam",
    optimizer_param={"lr": 0.001},
    evaluate_sample_num_per_epoch=200,
)
trainer.train()
