import os
import sys

sys.path.append(os.pardir)
import numpy as np
from common.trainer import Trainer
from dataset.mnist import load_mnist
from simple_convnet import SimpleConvNet

np.random.seed(0)
(x_train, t_train), (x_test, t_test) = load_mnist(flatten=False)

network = SimpleConvNet(
    conv_param={"filter_num": 8, "filter_size": 5, "pad": 0, "stride": 1}, hidden_size=30
)
trainer = Trainer(
    network,
    x_train,
    t_train,
    x_test,
    t_test,
    epochs=2,
    mini_batch_size=50,
    optimizer="Adam",
    optimizer_param={"lr": 0.001},
    evaluate_sample_num_per_epoch=100,
)
trainer.train()

pool, conv = network.layers["Pool1"], network.layers["Conv1"]
print("arg_max", pool.arg_max.shape, np.bincount(pool.arg_max, minlength=4))
print("x", conv.x.shape, conv.x.astype(float).sum(), "dW", np.abs(conv.dW).sum())
print("mask", network.layers["Relu1"].mask.sum(), "affine x", network.layers["Affine1"].x.shape)
