# factor.py LAYER.onnx RANK OUT.onnx
#
# Replaces the first 3x3 convolution of a layer by a 3x1 and a 1x3 one with RANK channels between them, with the largest
# singular values of its weights. What follows the convolution in the layer stays. Needs `pip install onnx`.
import sys
import numpy as np, onnx
from onnx import helper, numpy_helper

model = onnx.load(sys.argv[1])
graph, rank = model.graph, int(sys.argv[2])
at, conv = next((i, n) for i, n in enumerate(graph.node) if n.op_type == "Conv")
stored = {t.name: t for t in graph.initializer}
w = numpy_helper.to_array(stored[conv.input[1]])  # outputs, inputs, 3, 3
k, c = w.shape[:2]
u, s, v = np.linalg.svd(w.transpose(1, 2, 0, 3).reshape(c * 3, k * 3))
column = (u[:, :rank] * np.sqrt(s[:rank])).T.reshape(rank, c, 3, 1)
row = (v[:rank].T * np.sqrt(s[:rank])).reshape(k, 3, rank).transpose(0, 2, 1)[:, :, None, :]
graph.initializer.remove(stored[conv.input[1]])
graph.initializer.extend([numpy_helper.from_array(np.ascontiguousarray(column), "column"),
                          numpy_helper.from_array(np.ascontiguousarray(row), "row")])
graph.node.remove(conv)
graph.node.insert(at, helper.make_node("Conv", [conv.input[0], "column"], ["narrow"], pads=[1, 0, 1, 0]))
graph.node.insert(at + 1, helper.make_node("Conv", ["narrow", "row", conv.input[2]], conv.output, pads=[0, 1, 0, 1]))
onnx.save(model, sys.argv[3])
