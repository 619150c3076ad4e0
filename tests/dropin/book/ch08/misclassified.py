import os
import sys

sys.path.append(os.pardir)
sys.path.append(os.path.join(os.pardir, "ch07"))
import numpy as np
from common.optimizer import Momentum
from common.util import shuffle_dataset
from dataset.mnist import load_mnist
from simple_convnet import SimpleConvNet

np.random.seed(0)
(x_train, t_train), (x_test, t_test) = load_mnist(flatten=False)
x_train, t_train = shuffle_dataset(x_train, t_train)
network = SimpleConvNet(
    conv_param={"filter_num": 4, "filter_size": 5, "pad": 0, "stride": 1},
    hidden_size=20,
    weight_init_std=0.1,
)
optimizer = Momentum(lr=0.02)
for i in range(8):
    part = slice(i * 30, (i + 1) * 30)
    optimizer.update(network.params, network.gradient(x_train[part], t_train[part]))

answers = []
for i in range(len(x_test) // 20):
    answers.append(np.argmax(network.predict(x_test[i * 20 : (i + 1) * 20]), axis=1))
answers = np.concatenate(answers)
wrong = np.flatnonzero(answers != t_test)
print("test accuracy:" + str(1 - len(wrong) / len(t_test)))
print("======= misclassified result =======")
for view, i in enumerate(wrong[:20], 1):
    print(f"{view}: image {i}, label {t_test[i]}, inference {answers[i]}")
