#!/usr/bin/env python3
"""Trains D2S variants of layers of the glyph networks, as published (arXiv 2606.06818).

A variant is DepthToSpace(gamma), the layer's convolution with 1/gamma^2 of its
input and output channels on a map gamma times as large, and SpaceToDepth(gamma).
A matrix product takes gamma^2 slices of its input through the same smaller
product. Only the new weights are trained, with the ordinary loss of
train_glyphs.py and no distillation; everything else is frozen.

Needs what train_glyphs.py needs. Layers come from the program, so that a
variant has the inputs and outputs of the layer that it replaces:

    make build
    go run ./scripts/glyphs -split train -n 100000 -out data/train
    go run ./scripts/glyphs -split test -n 10000 -out data/test
    for net in glyph_resnet glyph_vgg glyph_vit; do
        bin/terastal models split zoo:$net --granularity op --out data/$net
        venv/bin/python scripts/train_variants.py $net --layers data/$net --data data \\
            --out models/zoo/trained/d2s/$net
    done

Layers are trained one after the other, from the first to the last. While one is
trained, each of those before it runs as its variant in half of the batches,
drawn at random: combinations are what the scheduler uses, and the paper leaves
open what the others are meanwhile. The new weights start from least squares: of
all such weights, those whose output on 512 images is nearest to the original's.

One core of an AMD EPYC with bfloat16 instructions, shared with other work, took
these seconds to train a layer; accuracy is on the 10,000 test images, alone and
with all variants before it in the list:

    network       layer              gamma   seconds   alone     together   original
    glyph_resnet  block1/conv2         2        65     98.96 %   98.96 %    99.24 %
                  block2/conv2         2        51     98.10 %   97.35 %
                  block3/conv1         2        47     95.53 %   86.71 %
                  block3/conv2         2        43     95.81 %   62.80 %
                  block4/conv1         2        38     94.28 %   28.19 %
                  block4/conv2         2        34     98.51 %   35.90 %
    glyph_vgg     conv2                2       100     98.40 %   98.40 %    99.38 %
                  conv3                2        88     98.02 %   95.77 %
                  conv4                2        72     97.83 %   90.16 %
                  conv5                2        60     97.51 %   75.83 %
                  dense                2        57     97.86 %   52.88 %
    glyph_vit     stem3                2        82     96.05 %   96.05 %    99.02 %
                  block1/qkv           2        70     98.65 %   95.41 %
                  block2/qkv           2        60     98.15 %   93.12 %
                  block3/qkv           2        51     98.53 %   89.47 %

Training is seeded, but another processor or thread count rounds differently.
Accuracies that Go holds are in scripts/variants/d2s_test.go; `make variants`
measures the rest.

A layer whose file is there already keeps its weights, and the file is written
again; remove it to train the layer again.
"""

import argparse
import math
import pathlib
import time

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch.nn import functional as F

from train_glyphs import CLASSES, tensor

# The layers that are faster as D2S on an accelerator, with the smallest gamma that makes them so.
LAYERS = {
    "glyph_resnet": {
        "block1/conv2": 2, "block2/conv2": 2, "block3/conv1": 2,
        "block3/conv2": 2, "block4/conv1": 2, "block4/conv2": 2,
    },
    "glyph_vgg": {"conv2": 2, "conv3": 2, "conv4": 2, "conv5": 2, "dense": 2},
    "glyph_vit": {
        "stem3": 2, "block1/qkv/MatMulAddFusion": 2,
        "block2/qkv/MatMulAddFusion": 2, "block3/qkv/MatMulAddFusion": 2,
    },
}  # fmt: skip


def depth_to_space(x, g):
    """ONNX's DepthToSpace in its mode DCR. Channels stay last in memory."""
    n, c, h, w = x.shape
    x = x.permute(0, 2, 3, 1).reshape(n, h, w, g, g, c // g**2)
    return x.permute(0, 1, 3, 2, 4, 5).reshape(n, h * g, w * g, c // g**2).permute(0, 3, 1, 2)


def space_to_depth(x, g):
    n, c, h, w = x.shape
    x = x.permute(0, 2, 3, 1).reshape(n, h // g, g, w // g, g, c)
    return x.permute(0, 1, 3, 2, 4, 5).reshape(n, h // g, w // g, g * g * c).permute(0, 3, 1, 2)


def attributes(node):
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


class D2S(torch.nn.Module):
    """Replaces the convolution or the matrix product of a node that reads x and makes y, on a batch of one."""

    def __init__(self, node, weight, gamma, x, y):
        super().__init__()
        self.gamma, self.linear = gamma, node.op_type == "Gemm"
        a = attributes(node)
        if self.linear:
            assert a.get("alpha", 1) == 1 and a.get("beta", 1) == 1
            self.rows, kernel = x.shape[0], []
            weight = weight if a.get("transB") else weight.T
        else:
            assert a.get("group", 1) == 1 and set(a.get("dilations", [1])) == {1}
            self.strides, kernel, pads = a.get("strides", [1, 1]), list(weight.shape[2:]), a["pads"]
            self.size = [gamma * s for s in y.shape[2:]]
            # What would be cropped is not computed where less padding does it.
            ends = [
                max(0, (self.size[i] - 1) * self.strides[i] + kernel[i] - gamma * (x.shape[2 + i] + pads[i]))
                for i in range(2)
            ]
            self.pads = [gamma * pads[0], gamma * pads[1], *ends]
        k, c = (n // gamma**2 for n in weight.shape[:2])
        assert c * gamma**2 == weight.shape[1] and k * gamma**2 == weight.shape[0]
        self.weight = torch.nn.Parameter(torch.zeros(k, c, *kernel))
        self.bias = torch.nn.Parameter(torch.zeros(k))

    def spread(self, x):
        """The map, or the rows, that the small operator reads."""
        if self.linear:
            return x.reshape(-1, self.weight.shape[1])
        top, left, bottom, right = self.pads
        return F.pad(depth_to_space(x, self.gamma), (left, right, top, bottom))

    def forward(self, x):
        if self.linear:
            return F.linear(self.spread(x), self.weight, self.bias).reshape(x.shape[0], -1)
        y = F.conv2d(self.spread(x), self.weight, self.bias, self.strides)
        return space_to_depth(y[:, :, : self.size[0], : self.size[1]], self.gamma)

    @torch.no_grad()
    def fit(self, x, y):
        """Sets the weights by least squares, to make outputs y from inputs x."""
        if self.linear:
            patches, y = self.spread(x), y.reshape(-1, self.weight.shape[0])
        else:
            patches = F.unfold(self.spread(x), self.weight.shape[2:], stride=self.strides)
            patches, y = patches.transpose(1, 2), depth_to_space(y, self.gamma).flatten(2).transpose(1, 2)
            assert patches.shape[1] == y.shape[1], "least squares is for variants that need no cropping"
            patches, y = patches.reshape(-1, patches.shape[2]), y.reshape(-1, y.shape[2])
        a = torch.cat([patches, torch.ones(len(patches), 1)], 1)
        moments, products = (a.T @ a).double(), (a.T @ y).double()
        moments += 1e-4 * moments.diagonal().mean() * torch.eye(len(moments))
        solution = torch.linalg.solve(moments, products).float()
        self.weight.copy_(solution[:-1].T.reshape(self.weight.shape))
        self.bias.copy_(solution[-1])

    def emit(self, graph, node):
        """Puts the nodes of the variant in the place of the original's."""
        name, g, nodes = node.name, self.gamma, []
        at = list(graph.node).index(node)

        def constant(of, values):
            graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(values), f"{name}/d2s/{of}"))
            return f"{name}/d2s/{of}"

        def add(op, *inputs, output=None, **attributes):
            output = output or f"{name}/d2s/{op.lower()}"
            nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
            return output

        weight, bias = (p.detach().numpy() for p in (self.weight, self.bias))
        x = node.input[0]
        if self.linear:
            x = add("Reshape", x, constant("rows", np.array([self.rows * g * g, weight.shape[1]], np.int64)))
            x = add("Gemm", x, constant("weight", weight), constant("bias", bias), transB=1)
            columns = weight.shape[0] * g * g
            add("Reshape", x, constant("shape", np.array([self.rows, columns], np.int64)), output=node.output[0])
        else:
            x = add("DepthToSpace", x, blocksize=g)
            x = add(
                "Conv", x, constant("weight", weight), constant("bias", bias),
                kernel_shape=list(weight.shape[2:]), strides=list(self.strides), pads=self.pads,
            )  # fmt: skip
            add("SpaceToDepth", x, blocksize=g, output=node.output[0])
        rest = list(graph.node)
        del graph.node[:]
        graph.node.extend(rest[:at] + nodes + rest[at + 1 :])
        read = {i for n in graph.node for i in n.input}
        stored = [t for t in graph.initializer if t.name in read]
        del graph.initializer[:]
        graph.initializer.extend(stored)

    def load(self, file):
        name = {t.name.rsplit("/", 1)[-1]: t for t in onnx.load(file).graph.initializer if "/d2s/" in t.name}
        with torch.no_grad():
            self.weight.copy_(torch.from_numpy(numpy_helper.to_array(name["weight"]).copy()))
            self.bias.copy_(torch.from_numpy(numpy_helper.to_array(name["bias"]).copy()))


class Net:
    """Runs the layers in a folder one after the other, some operators replaced by their variants."""

    def __init__(self, folder):
        self.models = [onnx.load(file) for file in sorted(folder.glob("*.onnx"))]
        self.nodes = [n for m in self.models for n in m.graph.node]
        self.stored, self.variants = {}, {}
        for t in (t for m in self.models for t in m.graph.initializer):
            w = torch.from_numpy(numpy_helper.to_array(t).copy())
            self.stored[t.name] = w.contiguous(memory_format=torch.channels_last) if w.ndim == 4 else w

    def find(self, layer):
        """A layer, and its convolution or matrix product."""
        for m in self.models:
            for n in m.graph.node:
                if n.op_type in ("Conv", "Gemm") and n.name == layer:
                    return m, n
        raise SystemExit(f"no layer {layer!r}: --layers wants what `terastal models split --granularity op` wrote")

    def start(self, images):
        return {**self.stored, "input": images}

    def run(self, values, on=(), to=None, after=None):
        """Runs the nodes behind one and up to another, which it leaves out; values is what they read and make."""
        batch, running = values["input"].shape[0], after is None
        for n in self.nodes:
            if n is to:
                break
            if running:
                x = [values[i] for i in n.input]
                y = self.variants[n.name](x[0]) if n.name in on else compute(n, x, batch)
                values.update(zip(n.output, y if isinstance(y, (list, tuple)) else [y]))
            running = running or n is after
        return values


def compute(node, x, batch):
    """A node on several requests at once, of which the file describes one."""
    a = attributes(node)
    match node.op_type:
        case "Conv":
            return F.conv2d(*x, a["strides"], a["pads"][:2], groups=a["group"])
        case "Relu":
            return F.relu(x[0])
        case "Clip":
            return x[0].clamp(x[1].item(), x[2].item())
        case "MaxPool":
            return F.max_pool2d(x[0], a["kernel_shape"], a["strides"])
        case "GlobalAveragePool":
            return x[0].mean((2, 3), keepdim=True)
        case "Flatten":
            return x[0].flatten(1)
        case "Gemm":
            return F.linear(x[0], x[1] if a.get("transB") else x[1].T, x[2])
        case "MatMul":
            return x[0] @ x[1]
        case "Add":
            return x[0] + x[1]
        case "Mul":
            return x[0] * x[1]
        case "Erf":
            return x[0].erf()
        case "Softmax":
            return x[0].softmax(a["axis"])
        case "LayerNormalization":
            return F.layer_norm(x[0], x[1].shape, x[1], x[2], a["epsilon"])
        case "Reshape":
            first, *rest = x[1].tolist()
            return x[0].reshape(first * batch if first > 0 else first, *rest)
        case "Transpose":
            return x[0].permute(*a["perm"])
        case "Split":
            return x[0].split(x[1].tolist(), a["axis"])
        case "ReduceMean":
            return x[0].mean(a["axes"])
    raise SystemExit(f"operator {node.op_type} of {node.name} is not known here: add it to compute()")


@torch.no_grad()
def accuracy(net, data, on):
    images, labels = data
    right = 0
    for at in range(0, len(labels), 250):
        scores = net.run(net.start(tensor(images[at : at + 250])), on)["output"]
        right += (scores.argmax(1).numpy() == labels[at : at + 250]).sum()
    return right / len(labels)


def train(net, node, variant, data, args, order):
    """Trains the variant of a node; those of net.variants, of layers before it, are on at random."""
    images, labels = data
    optimiser = torch.optim.AdamW(variant.parameters(), args.peak, weight_decay=0)
    steps = args.images // args.batch
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, args.peak, steps, pct_start=0.1, cycle_momentum=False, final_div_factor=100
    )
    shuffled = np.resize(order.permutation(len(labels)), steps * args.batch)
    start, smooth = time.process_time(), 0
    for i in range(steps):
        at = shuffled[i * args.batch : (i + 1) * args.batch]
        on = [v for v in net.variants if order.random() < 0.5]
        with torch.autocast("cpu", torch.bfloat16):
            with torch.no_grad():
                values = net.run(net.start(tensor(images[at])), on, to=node)
            values[node.output[0]] = variant(values[node.input[0]])
            scores = net.run(values, after=node)["output"]
        loss = F.cross_entropy(scores.float(), torch.from_numpy(labels[at]).long(), label_smoothing=0.05)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(variant.parameters(), 1)
        optimiser.step()
        schedule.step()
        smooth += max(0.02, 1 / (i + 1)) * (loss.item() - smooth)
        if i % 50 == 49 or i == 0:
            print(f"  batch {i + 1} of {steps} loss {smooth:.3f} {time.process_time() - start:.0f} s", flush=True)


def save(model, node, variant, file):
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    variant.emit(copy.graph, next(n for n in copy.graph.node if n.name == node.name))
    onnx.checker.check_model(copy, full_check=True)
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(".part")
    part.write_bytes(copy.SerializeToString(deterministic=True))
    part.replace(file)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("net", choices=LAYERS)
    parser.add_argument("--data", type=pathlib.Path, required=True, help="folder with train/ and test/")
    parser.add_argument("--layers", type=pathlib.Path, required=True, help="folder that `terastal models split` wrote")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder for an ONNX file per variant")
    parser.add_argument("--images", type=int, default=128000, help="images that each variant is trained on")
    parser.add_argument("--test", type=int, default=2000, help="test images to print accuracies on")
    parser.add_argument("--peak", type=float, default=4e-3, help="the largest learning rate")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    images, labels = (np.load(args.data / "train" / f"{n}.npy") for n in ("images", "labels"))
    test = [np.load(args.data / "test" / f"{n}.npy")[: args.test] for n in ("images", "labels")]
    net = Net(args.layers)
    print(f"{args.net}: accuracy {accuracy(net, test, ()):.4f} on {len(test[1])} test images", flush=True)
    for number, (layer, gamma) in enumerate(LAYERS[args.net].items()):
        file = args.out / (layer.replace("/", "-") + ".onnx")
        model, node = net.find(layer)
        with torch.no_grad():
            one, some = (net.run(net.start(tensor(images[:n]))) for n in (1, 512))
        x, y = node.input[0], node.output[0]
        variant = D2S(node, net.stored[node.input[1]], gamma, one[x], one[y])
        if file.exists():
            variant.load(file)
        else:
            variant.fit(some[x].contiguous(), some[y].contiguous())
            del one, some
            train(net, node, variant, (images, labels), args, np.random.default_rng([args.seed, number]))
        variant.requires_grad_(False)
        save(model, node, variant, file)
        net.variants[node.name] = variant
        alone, together = (accuracy(net, test, on) for on in ([node.name], list(net.variants)))
        print(f"{layer}, gamma {gamma}: {alone:.4f} alone, {together:.4f} with those before it", flush=True)


if __name__ == "__main__":
    main()
