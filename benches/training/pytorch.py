"""One ResNet-18 training step in PyTorch on the CPU, timed: the other side of `cargo bench --bench training`.

    python pytorch.py STEM BATCH CHANNELS SIZE THREADS STEPS LAYOUT

STEM is `imagenet` or `cifar`, or `projector` for the paper's head alone; LAYOUT `contiguous` or `channels_last`.
Prints the seconds of each step and the peak memory of the process as JSON. A step is forward, backward, Adam (fused)
and running statistics, in float32.
"""

import json
import resource
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn


class Block(nn.Module):
    def __init__(self, channels, filters, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, filters, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(filters)
        self.conv2 = nn.Conv2d(filters, filters, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(filters)
        self.downsample = None
        if stride != 1 or channels != filters:
            conv = nn.Conv2d(channels, filters, 1, stride, bias=False)
            self.downsample = nn.Sequential(conv, nn.BatchNorm2d(filters))

    def forward(self, x):
        residual = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        return F.relu(self.bn2(self.conv2(x)) + residual, inplace=True)


class ResNet18(nn.Module):
    def __init__(self, stem, channels):
        super().__init__()
        self.pool = stem == "imagenet"
        kernel, stride = (7, 2) if self.pool else (3, 1)
        self.conv1 = nn.Conv2d(channels, 64, kernel, stride, kernel // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        blocks, channels = [], 64
        for filters, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
            blocks += [Block(channels, filters, stride), Block(filters, filters, 1)]
            channels = filters
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(512, 10, bias=False)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        if self.pool:
            x = F.max_pool2d(x, 3, 2, 1)
        return self.head(self.blocks(x).mean((2, 3)))


class Projector(nn.Sequential):
    """The paper's head: 8192-8192-8192 on features."""

    def __init__(self, features):
        layers, width = [], 8192
        for inputs in (features, width):
            layers += [nn.Linear(inputs, width, bias=False), nn.BatchNorm1d(width), nn.ReLU(inplace=True)]
        super().__init__(*layers, nn.Linear(width, width, bias=False))


def main():
    stem, layout = sys.argv[1], sys.argv[7]
    batch, channels, size, threads, steps = map(int, sys.argv[2:7])
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    if stem == "projector":
        net, x = Projector(channels).train(), torch.randn(batch, channels)
    else:
        net, x = ResNet18(stem, channels).train(), torch.randn(batch, channels, size, size)
    if stem != "projector" and layout == "channels_last":
        net, x = net.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    labels = torch.arange(batch) % 10
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-4, fused=True)
    seconds = []
    for _ in range(steps + 2):
        start = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        loss = F.cross_entropy(net(x), labels)
        loss.backward()
        optimizer.step()
        loss.item()
        seconds.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds[2:], "peak_mib": peak, "version": torch.__version__}))


main()
