import os
import sys

sys.path.append(os.pardir)
import numpy as np
from common.multi_layer_net_extend import MultiLayerNetExtend
from common.trainer import Trainer
from dataset.mnist import load_mnist

np.random.seed(0)
(x_train, t_train), (x_test, t_test) = load_mnist(normalize=True)

network = MultiLayerNetExtend(
    784, [30, 30, 30], 10, weight_decay_lambda=0.001, use_dropout=True, dropout_ration=0.2,
    use_batchnorm=True,
)  # fmt: skip
# 64 does not divide the 300 images, so that evaluations fall on few steps.
trainer = Trainer(
    network,
    x_train,
    t_train,
    x_test,
    t_test,
    epochs=17,
    mini_batch_size=64,
    optimizer="sgd",
    optimizer_param={"lr": 0.05},
)
trainer.train()
print("evaluated", len(trainer.train_acc_list), "times in", trainer.current_iter, "steps")
print("running mean", np.abs(network.layers["BatchNorm1"].running_mean).sum())
