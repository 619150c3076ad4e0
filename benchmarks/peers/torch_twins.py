"""VGG, ResNet and GoogLeNet in PyTorch, written from the papers, with the usual names."""

from __future__ import annotations

import torch
from torch import nn

VGG = {11: (1, 1, 2, 2, 2), 16: (2, 2, 3, 3, 3)}
RESNET = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3)}


def vgg(depth, batch_norm, classes, channels, hidden):
    """The network with 4096 hidden units replaced by `hidden`."""
    features, c = [], channels
    for count, fn in zip(VGG[depth], (64, 128, 256, 512, 512), strict=True):
        for _ in range(count):
            features.append(nn.Conv2d(c, fn, 3, padding=1))
            features += [nn.BatchNorm2d(fn)] if batch_norm else []
            features.append(nn.ReLU())
            c = fn
        features.append(nn.MaxPool2d(2))
    classifier = nn.Sequential(
        *(nn.Linear(512 * 49, hidden), nn.ReLU(), nn.Dropout()),
        *(nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(), nn.Linear(hidden, classes)),
    )

    class Vgg(nn.Module):
        def __init__(self):
            super().__init__()
            self.features = nn.Sequential(*features)
            self.avgpool = nn.AdaptiveAvgPool2d(7)
            self.classifier = classifier

        def forward(self, x):
            return self.classifier(self.avgpool(self.features(x)).flatten(1))

    return Vgg()


class Basic(nn.Module):
    def __init__(self, c, width, stride, projected):
        super().__init__()
        self.conv1 = nn.Conv2d(c, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.more = width - c
        self.stride = stride
        if projected and (stride != 1 or c != width):
            self.downsample = nn.Sequential(
                nn.Conv2d(c, width, 1, stride, bias=False), nn.BatchNorm2d(width)
            )
        self.out = width

    def aside(self, x):
        if hasattr(self, "downsample"):
            return self.downsample(x)
        x = x[:, :, :: self.stride, :: self.stride]
        return nn.functional.pad(x, (0, 0, 0, 0, self.more // 2, self.more // 2))

    def body(self, x):
        return self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))

    def forward(self, x):
        return torch.relu(self.body(x) + self.aside(x))


class Bottleneck(Basic):
    def __init__(self, c, width, stride, projected):
        nn.Module.__init__(self)
        self.conv1 = nn.Conv2d(c, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.more, self.stride, self.out = 0, stride, 4 * width
        if stride != 1 or c != 4 * width:
            self.downsample = nn.Sequential(
                nn.Conv2d(c, 4 * width, 1, stride, bias=False), nn.BatchNorm2d(4 * width)
            )

    def body(self, x):
        x = torch.relu(self.bn1(self.conv1(x)))
        return self.bn3(self.conv3(torch.relu(self.bn2(self.conv2(x)))))


def _stages(module, block, counts, widths, c, projected=True):
    for stage, (count, width) in enumerate(zip(counts, widths, strict=True), start=1):
        blocks = []
        for number in range(count):
            blocks.append(block(c, width, 2 if stage > 1 and number == 0 else 1, projected))
            c = blocks[-1].out
        setattr(module, f"layer{stage}", nn.Sequential(*blocks))
    return c


class ResNet(nn.Module):
    def __init__(self, depth, classes, channels):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        block = Bottleneck if depth >= 50 else Basic
        c = _stages(self, block, RESNET[depth], (64, 128, 256, 512), 64)
        self.fc = nn.Linear(c, classes)

    def forward(self, x):
        x = nn.functional.max_pool2d(torch.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
        return self.fc(x.mean((2, 3)))


class SmallResNet(nn.Module):
    def __init__(self, depth, classes, channels):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        _stages(self, Basic, [(depth - 2) // 6] * 3, (16, 32, 64), 16, projected=False)
        self.linear = nn.Linear(64, classes)

    def forward(self, x):
        x = torch.relu(self.bn1(self.conv1(x)))
        for stage in (self.layer1, self.layer2, self.layer3):
            x = stage(x)
        return self.linear(x.mean((2, 3)))


class Unit(nn.Module):
    def __init__(self, c, fn, size, stride=1, pad=0):
        super().__init__()
        self.conv = nn.Conv2d(c, fn, size, stride, pad, bias=False)
        self.bn = nn.BatchNorm2d(fn, eps=0.001)

    def forward(self, x):
        return torch.relu(self.bn(self.conv(x)))


class Inception(nn.Module):
    def __init__(self, c, one, reduce3, three, reduce5, five, pooled):
        super().__init__()
        self.branch1 = Unit(c, one, 1)
        self.branch2 = nn.Sequential(Unit(c, reduce3, 1), Unit(reduce3, three, 3, 1, 1))
        self.branch3 = nn.Sequential(Unit(c, reduce5, 1), Unit(reduce5, five, 3, 1, 1))
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, 1, 1, ceil_mode=True), Unit(c, pooled, 1))

    def forward(self, x):
        branches = (self.branch1, self.branch2, self.branch3, self.branch4)
        return torch.cat([branch(x) for branch in branches], 1)


class Auxiliary(nn.Module):
    def __init__(self, c, classes):
        super().__init__()
        self.conv = Unit(c, 128, 1)
        self.fc1 = nn.Linear(2048, 1024)
        self.fc2 = nn.Linear(1024, classes)

    def forward(self, x):  # without its dropout
        x = self.conv(nn.functional.adaptive_avg_pool2d(x, 4)).flatten(1)
        return self.fc2(torch.relu(self.fc1(x)))


class GoogLeNet(nn.Module):
    """Without dropout; in training with heads (scores, scores of aux1, scores of aux2)."""

    def __init__(self, classes, channels, heads=True):
        super().__init__()
        self.heads = heads
        self.conv1 = Unit(channels, 64, 7, 2, 3)
        self.conv2 = Unit(64, 64, 1)
        self.conv3 = Unit(64, 192, 3, 1, 1)
        self.inception3a = Inception(192, 64, 96, 128, 16, 32, 32)
        self.inception3b = Inception(256, 128, 128, 192, 32, 96, 64)
        self.inception4a = Inception(480, 192, 96, 208, 16, 48, 64)
        self.inception4b = Inception(512, 160, 112, 224, 24, 64, 64)
        self.inception4c = Inception(512, 128, 128, 256, 24, 64, 64)
        self.inception4d = Inception(512, 112, 144, 288, 32, 64, 64)
        self.inception4e = Inception(528, 256, 160, 320, 32, 128, 128)
        self.inception5a = Inception(832, 256, 160, 320, 32, 128, 128)
        self.inception5b = Inception(832, 384, 192, 384, 48, 128, 128)
        if heads:
            self.aux1 = Auxiliary(512, classes)
            self.aux2 = Auxiliary(528, classes)
        self.fc = nn.Linear(1024, classes)

    def forward(self, x):
        def pool(x, size):
            return nn.functional.max_pool2d(x, size, 2, ceil_mode=True)

        x = pool(self.conv3(self.conv2(pool(self.conv1(x), 3))), 3)
        x = self.inception4a(pool(self.inception3b(self.inception3a(x)), 3))
        first = self.aux1(x) if self.training and self.heads else None
        x = self.inception4d(self.inception4c(self.inception4b(x)))
        second = self.aux2(x) if self.training and self.heads else None
        x = self.inception5b(self.inception5a(pool(self.inception4e(x), 2)))
        scores = self.fc(x.mean((2, 3)))
        return (scores, first, second) if self.training and self.heads else scores


class Unpadded(nn.Module):
    """M3, M5 and M7 of arXiv:2008.10400; the last norm has the epsilon of the book's."""

    def __init__(self, size, filters, classes, side):
        super().__init__()
        features, c = [], 1
        for fn in filters:
            features += [nn.Conv2d(c, fn, size, bias=False), nn.BatchNorm2d(fn), nn.ReLU()]
            c = fn
        self.features = nn.Sequential(*features)
        units = c * (side - len(filters) * (size - 1)) ** 2
        last = nn.BatchNorm1d(classes, eps=1e-6)
        self.classifier = nn.Sequential(nn.Linear(units, classes, bias=False), last)

    def forward(self, x):
        return self.classifier(self.features(x).flatten(1))


class DigitNet(nn.Module):
    """Blocks of unpadded, then of padded 3x3 convolutions with batch normalisation."""

    def __init__(self, blocks, classes, channels, units):
        super().__init__()
        features, c = [], channels
        for number, block in enumerate(blocks):
            for fn in block:
                features.append(nn.Conv2d(c, fn, 3, padding=min(number, 1), bias=False))
                features += [nn.BatchNorm2d(fn), nn.ReLU()]
                c = fn
            features.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*features)
        self.classifier = nn.Sequential(nn.Linear(c * units, classes))

    def forward(self, x):
        return self.classifier(self.features(x).flatten(1))
