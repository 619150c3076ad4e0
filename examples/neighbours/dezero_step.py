"""Train a network like chapter 8's in dezero, and say how long a step takes."""

import sys
import time

import numpy as np

setattr(np, "int", int)  # dezero 0.0.13 was written for a NumPy that has it
import dezero.functions as F
import dezero.layers as L
from dezero import Model, optimizers

STEPS = 5


class DeepConvNet(Model):
    def __init__(self):
        super().__init__()
        filters, pads = (16, 16, 32, 32, 64, 64), (1, 1, 1, 2, 1, 1)
        self.convolutions = [L.Conv2d(n, 3, 1, p) for n, p in zip(filters, pads, strict=True)]
        for number, layer in enumerate(self.convolutions):
            setattr(self, f"conv{number}", layer)
        self.hidden, self.scores = L.Linear(50), L.Linear(10)

    def forward(self, x):
        for number, layer in enumerate(self.convolutions):
            x = F.relu(layer(x))
            if number % 2:
                x = F.pooling(x, 2, 2)
        x = F.reshape(x, (len(x), -1))
        return F.dropout(self.scores(F.dropout(F.relu(self.hidden(x)))))


np.random.seed(0)
images = np.random.rand(100, 1, 28, 28).astype(np.float32)
labels = np.random.randint(0, 10, 100)
network = DeepConvNet()
optimizer = optimizers.Adam().setup(network)
for step in range(STEPS + 1):
    if step == 1:  # the first one makes the parameters
        start = time.process_time()
    loss = F.softmax_cross_entropy(network(images), labels)
    network.cleargrads()
    loss.backward()
    optimizer.update()
    print("loss", loss.data)
print(f"{(time.process_time() - start) / STEPS:.4f} s a step", file=sys.stderr)
