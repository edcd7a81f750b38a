#!/usr/bin/env python3
"""Trains the networks of models/zoo/trained on the images of internal/glyphs.

Needs Python 3.11 with torch 2.15.0, numpy 2.4.6 and onnx 1.23.2:

    python3 -m venv venv
    venv/bin/pip install torch==2.15.0 numpy==2.4.6 onnx==1.23.2

    go run ./scripts/glyphs -split train -n 300000 -out data/train
    go run ./scripts/glyphs -split test -n 10000 -out data/test
    for net in glyph_resnet glyph_mobile glyph_vgg glyph_vit; do
        venv/bin/python scripts/train_glyphs.py $net --data data --out models/zoo/trained
    done

The images take half a minute. On two cores of an AMD EPYC with bfloat16
instructions, two networks trained at a time on one core each, and shared with
other work; accuracy is on the 10,000 test images, after the last epoch, with no
epoch or seed chosen by it:

    network       parameters   MMACs   ONNX bytes   epochs   minutes   accuracy
    glyph_mobile     210,937    18.4      851,427        2        48    99.12 %
    glyph_resnet     386,285    38.2    1,548,692        2        22    99.24 %
    glyph_vgg        756,381    51.2    3,027,383        2        21    99.38 %
    glyph_vit        593,046    29.9    2,383,096        3        28    99.02 %

The Go code measures the same with

    go test ./models/zoo -run NameGlyphs -v -images 10000

The ONNX file is written anew after every epoch. Its BatchNormalization is
folded into the convolutions. Training is seeded, but another processor or
thread count rounds differently and ends at slightly different weights; write
the new accuracy into models/zoo/zoo.go.
"""

import argparse
import math
import pathlib
import time

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from torch.nn import functional as F

CLASSES = 45
SIZE = 48


class Graph:
    """An ONNX graph under construction. Values are named after their nodes."""

    def __init__(self):
        self.nodes, self.weights = [], []

    def weight(self, name, array):
        if isinstance(array, torch.Tensor):
            array = array.detach().float().numpy()
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def node(self, op, name, *inputs, outputs=1, **attributes):
        results = [name] if outputs == 1 else [f"{name}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(op, inputs, results, name=name, **attributes))
        return results[0] if outputs == 1 else results

    def reshape(self, name, x, *shape):
        return self.node("Reshape", name, x, self.weight(name + ".shape", np.array(shape, np.int64)))

    def save(self, name, file):
        self.nodes[-1].output[0] = "output"
        graph = helper.make_graph(
            self.nodes,
            name,
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 1, SIZE, SIZE])],
            [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, CLASSES])],
            self.weights,
        )
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="terastal"
        )
        onnx.checker.check_model(model, full_check=True)
        part = file.with_suffix(".part")
        part.write_bytes(model.SerializeToString(deterministic=True))
        part.replace(file)


class Conv(nn.Module):
    """Convolution, BatchNorm and, unless act is None, a rectifier."""

    def __init__(self, inputs, outputs, k=3, stride=1, groups=1, act="relu"):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, k, stride, k // 2, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.act = act

    def forward(self, x):
        x = self.norm(self.conv(x))
        return {"relu": F.relu, "relu6": F.relu6, None: lambda x: x}[self.act](x)

    def emit(self, g, x, name):
        c, n = self.conv, self.norm
        scale = n.weight.double() / torch.sqrt(n.running_var.double() + n.eps)
        x = g.node(
            "Conv", name, x,
            g.weight(name + ".weight", c.weight.double() * scale[:, None, None, None]),
            g.weight(name + ".bias", n.bias.double() - n.running_mean.double() * scale),
            kernel_shape=list(c.kernel_size), strides=list(c.stride), pads=[*c.padding, *c.padding], group=c.groups,
        )  # fmt: skip
        return activate(g, x, name, self.act)


def activate(g, x, name, act):
    if act == "relu":
        return g.node("Relu", name + ".relu", x)
    if act == "relu6":
        low, high = (g.weight(f"{name}.{b}", np.array(v, np.float32)) for b, v in (("min", 0), ("max", 6)))
        return g.node("Clip", name + ".relu6", x, low, high)
    return x


class Pool(nn.MaxPool2d):
    def __init__(self):
        super().__init__(2)

    def emit(self, g, x, name):
        return g.node("MaxPool", name, x, kernel_shape=[2, 2], strides=[2, 2])


class Average(nn.Module):
    def forward(self, x):
        return x.mean((2, 3), keepdim=True)

    def emit(self, g, x, name):
        return g.node("GlobalAveragePool", name, x)


class Flatten(nn.Flatten):
    def emit(self, g, x, name):
        return g.node("Flatten", name, x)


class Dropout(nn.Dropout):
    def emit(self, g, x, name):
        return x


class Dense(nn.Linear):
    def __init__(self, inputs, outputs, act=None):
        super().__init__(inputs, outputs)
        self.act = act

    def forward(self, x):
        x = super().forward(x)
        return F.relu(x) if self.act else x

    def emit(self, g, x, name):
        x = g.node(
            "Gemm", name, x, g.weight(name + ".weight", self.weight), g.weight(name + ".bias", self.bias), transB=1
        )
        return activate(g, x, name, self.act)


class Chain(nn.Sequential):
    """Modules one after the other, each named by its number unless it has a name."""

    def emit(self, g, x, prefix=""):
        for name, module in self.named_children():
            x = module.emit(g, x, prefix + name)
        return x


def chain(**modules):
    c = Chain()
    for name, m in modules.items():
        c.add_module(name, m)
    return c


class Residual(nn.Module):
    """Two 3x3 convolutions beside a shortcut that is projected where shapes differ."""

    def __init__(self, inputs, outputs, stride=1):
        super().__init__()
        self.conv1 = Conv(inputs, outputs, stride=stride)
        self.conv2 = Conv(outputs, outputs, act=None)
        nn.init.constant_(self.conv2.norm.weight, 0.2)
        self.project = Conv(inputs, outputs, 1, stride, act=None) if stride != 1 or inputs != outputs else None

    def forward(self, x):
        return F.relu(self.conv2(self.conv1(x)) + (self.project(x) if self.project else x))

    def emit(self, g, x, name):
        y = self.conv2.emit(g, self.conv1.emit(g, x, name + "/conv1"), name + "/conv2")
        if self.project:
            x = self.project.emit(g, x, name + "/project")
        return g.node("Relu", name + "/relu", g.node("Add", name + "/add", y, x))


class Inverted(nn.Module):
    """The inverted bottleneck of MobileNetV2: expand, depthwise, project."""

    def __init__(self, inputs, outputs, stride=1, expand=4):
        super().__init__()
        inner = inputs * expand
        self.expand = Conv(inputs, inner, 1, act="relu6")
        self.depthwise = Conv(inner, inner, 3, stride, inner, act="relu6")
        self.project = Conv(inner, outputs, 1, act=None)
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x):
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.shortcut else y

    def emit(self, g, x, name):
        y = x
        for part in ("expand", "depthwise", "project"):
            y = getattr(self, part).emit(g, y, f"{name}/{part}")
        return g.node("Add", name + "/add", x, y) if self.shortcut else y


class Linear(nn.Linear):
    """A linear map of the last dimension: MatMul and Add."""

    def emit(self, g, x, name, scale=None):
        weight, bias = self.weight.T, self.bias
        if scale is not None:
            weight, bias = weight * scale, bias * scale
        return g.node(
            "Add", name + ".add", g.node("MatMul", name, x, g.weight(name + ".weight", weight)), g.weight(name + ".bias", bias)
        )


class LayerNorm(nn.LayerNorm):
    def emit(self, g, x, name):
        return g.node(
            "LayerNormalization", name, x, g.weight(name + ".scale", self.weight), g.weight(name + ".bias", self.bias),
            axis=-1, epsilon=self.eps,
        )  # fmt: skip


class Tokens(nn.Module):
    """Makes a feature map [1, c, h, w] tokens [1, h w, c], and adds learned positions."""

    def __init__(self, count, width):
        super().__init__()
        self.position = nn.Parameter(0.02 * torch.randn(count, width))

    def forward(self, x):
        return x.flatten(2).transpose(1, 2) + self.position

    def emit(self, g, x, name):
        count, width = self.position.shape
        x = g.node("Transpose", name + "/transpose", g.reshape(name + "/reshape", x, 1, width, count), perm=[0, 2, 1])
        return g.node("Add", name + "/add", x, g.weight(name + "/position", self.position))


class Attention(nn.Module):
    """A pre-norm transformer block: multi-head self-attention, and two linear maps around a Gelu."""

    def __init__(self, count, width, heads, inner):
        super().__init__()
        self.count, self.heads = count, heads
        self.norm1, self.norm2 = LayerNorm(width), LayerNorm(width)
        self.qkv, self.out = Linear(width, 3 * width), Linear(width, width)
        self.up, self.down = Linear(width, inner), Linear(inner, width)

    def forward(self, x):
        b, n, c = x.shape
        q, k, v = self.qkv(self.norm1(x)).reshape(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        y = (q @ k.transpose(2, 3) / math.sqrt(c // self.heads)).softmax(-1) @ v
        x = x + self.out(y.transpose(1, 2).reshape(b, n, c))
        return x + self.down(F.gelu(self.up(self.norm2(x))))

    def emit(self, g, x, name):
        n, c, heads = self.count, self.out.in_features, self.heads
        scale = torch.ones(3 * c)
        scale[:c] = 1 / math.sqrt(c // heads)  # the queries' share
        y = self.qkv.emit(g, self.norm1.emit(g, x, name + "/norm1"), name + "/qkv", scale)
        parts = []
        split = g.weight(name + "/split.sizes", np.array([c, c, c], np.int64))
        for part, y in zip("qkv", g.node("Split", name + "/split", y, split, outputs=3, axis=2)):
            y = g.reshape(f"{name}/{part}/reshape", y, 1, n, heads, c // heads)
            perm = [0, 2, 3, 1] if part == "k" else [0, 2, 1, 3]
            parts.append(g.node("Transpose", f"{name}/{part}/transpose", y, perm=perm))
        y = g.node("Softmax", name + "/softmax", g.node("MatMul", name + "/scores", parts[0], parts[1]), axis=-1)
        y = g.node("Transpose", name + "/heads", g.node("MatMul", name + "/mix", y, parts[2]), perm=[0, 2, 1, 3])
        y = self.out.emit(g, g.reshape(name + "/join", y, 1, n, c), name + "/out")
        x = g.node("Add", name + "/add1", x, y)
        y = self.up.emit(g, self.norm2.emit(g, x, name + "/norm2"), name + "/up")
        y = self.down.emit(g, gelu(g, y, name + "/gelu"), name + "/down")
        return g.node("Add", name + "/add2", x, y)


def gelu(g, x, name):
    """The exact Gelu in the operators that exporters write before opset 20."""
    constant = lambda of, v: g.weight(f"{name}/{of}", np.array(v, np.float32))
    y = g.node("Erf", name + "/erf", g.node("Mul", name + "/scale", x, constant("root", math.sqrt(0.5))))
    y = g.node("Mul", name + "/mul", x, g.node("Add", name + "/add", y, constant("one", 1)))
    return g.node("Mul", name + "/half", y, constant("half.by", 0.5))


class Mean(nn.Module):
    """The mean of tokens [1, n, c]."""

    def forward(self, x):
        return x.mean(1)

    def emit(self, g, x, name):
        return g.node("ReduceMean", name, x, axes=[1], keepdims=0)


def resnet():
    return chain(
        stem=Conv(1, 32, 5, 2),
        block1=Residual(32, 32),
        block2=Residual(32, 64, 2),
        block3=Residual(64, 64),
        block4=Residual(64, 128, 2),
        pool=Average(),
        flatten=Flatten(),
        classes=Dense(128, CLASSES),
    )


def mobile():
    return chain(
        stem=Conv(1, 32, 3, 2, act="relu6"),
        block1=Inverted(32, 32),
        block2=Inverted(32, 48, 2),
        block3=Inverted(48, 48),
        block4=Inverted(48, 80, 2),
        block5=Inverted(80, 80),
        block6=Inverted(80, 80),
        head=Conv(80, 256, 1, act="relu6"),
        pool=Average(),
        flatten=Flatten(),
        classes=Dense(256, CLASSES),
    )


def vgg():
    return chain(
        conv1=Conv(1, 24),
        pool1=Pool(),
        conv2=Conv(24, 64),
        pool2=Pool(),
        conv3=Conv(64, 128),
        conv4=Conv(128, 128),
        pool3=Pool(),
        conv5=Conv(128, 256),
        pool4=Pool(),
        flatten=Flatten(),
        drop=Dropout(0.1),
        dense=Dense(256 * 3 * 3, 96, "relu"),
        classes=Dense(96, CLASSES),
    )


def vit():
    blocks = {f"block{i + 1}": Attention(36, 128, 4, 256) for i in range(3)}
    return chain(
        stem1=Conv(1, 32, stride=2),
        stem2=Conv(32, 64, stride=2),
        stem3=Conv(64, 96),
        patches=Conv(96, 128, stride=2, act=None),
        tokens=Tokens(36, 128),
        **blocks,
        norm=LayerNorm(128),
        mean=Mean(),
        classes=Dense(128, CLASSES),
    )


# Network, the peak of its learning rate, and how often it sees each image.
NETS = {
    "glyph_mobile": (mobile, 4e-3, 2),
    "glyph_resnet": (resnet, 3e-3, 2),
    "glyph_vgg": (vgg, 2e-3, 2),
    "glyph_vit": (vit, 1e-3, 3),
}


def tensor(images):
    x = (torch.from_numpy(images).float() - 128) / 64  # as glyphs.Tensor does
    return x.unsqueeze(1).contiguous(memory_format=torch.channels_last)


def accuracy(net, images, labels):
    net.eval()
    right = 0
    with torch.no_grad():
        for at in range(0, len(labels), 500):
            right += (net(tensor(images[at : at + 500])).argmax(1).numpy() == labels[at : at + 500]).sum()
    return right / len(labels)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("net", choices=NETS)
    parser.add_argument("--data", type=pathlib.Path, required=True, help="folder with train/ and test/")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder for the ONNX file")
    parser.add_argument("--epochs", type=int, help="default: as many as the published weights took")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    order = np.random.default_rng(args.seed)
    images, labels = (np.load(args.data / "train" / f"{n}.npy") for n in ("images", "labels"))
    test = [np.load(args.data / "test" / f"{n}.npy") for n in ("images", "labels")]

    make, peak, epochs = NETS[args.net]
    epochs = args.epochs or epochs
    net = make().to(memory_format=torch.channels_last)
    decay = [p for p in net.parameters() if p.ndim > 1]
    rest = [p for p in net.parameters() if p.ndim <= 1]
    optimiser = torch.optim.AdamW([{"params": decay, "weight_decay": 0.05}, {"params": rest, "weight_decay": 0}], peak)
    batches = len(labels) // args.batch
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, peak, epochs * batches, pct_start=0.1, cycle_momentum=False, final_div_factor=100
    )
    print(f"{args.net}: {sum(p.numel() for p in net.parameters())} parameters", flush=True)
    start, smooth = time.monotonic(), math.log(CLASSES)
    for epoch in range(epochs):
        net.train()
        shuffled = order.permutation(len(labels))
        for i in range(batches):
            at = shuffled[i * args.batch : (i + 1) * args.batch]
            with torch.autocast("cpu", torch.bfloat16):
                scores = net(tensor(images[at]))
            loss = F.cross_entropy(scores.float(), torch.from_numpy(labels[at]).long(), label_smoothing=0.05)
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1)
            optimiser.step()
            schedule.step()
            smooth += 0.01 * (loss.item() - smooth)
            if i % 200 == 199:
                spent = time.monotonic() - start
                seen = epoch * batches + i + 1
                print(f"epoch {epoch + 1} batch {i + 1} loss {smooth:.3f} {seen * args.batch / spent:.0f} images/s", flush=True)
        right = accuracy(net, *test)
        print(f"{args.net} epoch {epoch + 1}: test accuracy {right:.4f} after {time.monotonic() - start:.0f} s", flush=True)
        graph = Graph()
        net.emit(graph, "input")
        args.out.mkdir(parents=True, exist_ok=True)
        graph.save(args.net, args.out / f"{args.net}.onnx")


if __name__ == "__main__":
    main()
