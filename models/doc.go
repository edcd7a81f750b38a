// Package models loads ONNX models, checks them and splits them into layers: runs of nodes that are valid ONNX models
// themselves and, executed in order, compute exactly what the whole model computes. It is for whoever profiles,
// schedules or runs models layer by layer. It does not schedule, and it runs models only to learn shapes and costs and
// to verify a split.
//
//	runtime.Start("") // loads ONNX Runtime
//	m, err := models.Load("resnet50.onnx", models.Options{})
//	g, err := models.ParseGranularity("block")
//	layers, err := m.Split(g)
//	v, err := models.Verify(m, layers, models.RandomInputs(m, 1), "none", false)
//	files, err := models.WriteLayers("layers", layers)
//
// Three packages stand on it: models/zoo builds standard architectures, models/dataset reads inputs from files, and
// models/dense hands tensors to gorgonia.org/tensor and back without a copy.
//
// # How a model is cut
//
// The file is checked before ONNX Runtime sees it, and its symbolic dimensions get their sizes. ONNX Runtime then
// writes its basic-optimised form: constants folded, BatchNormalization merged into convolutions, dead nodes dropped,
// local functions inlined, all in standard operators. This graph is cut, so no portable optimisation is lost at a cut.
// One run with every value as an output gives types and shapes; nothing is inferred by hand.
//
// A cut separates nodes in topological order. What is alive across it travels by name: a layer reads what its own nodes
// read, and a tensor that skips layers stays in its buffer until its last reader (Buffers places all of them in one
// block). Any graph can be cut anywhere, except within a quantised operator's DequantizeLinear and QuantizeLinear, and
// where a value without a fixed size is alive. If, Loop and Scan stay whole; what their bodies capture becomes an input
// of the layer.
//
// # Why a cut costs almost nothing
//
// ONNX Runtime's CPU provider optimises further before it runs a model. It fuses operators (a convolution, its
// activation, the sum of a residual branch), and it moves convolutions to another layout, NCHWc: channels in blocks as
// wide as a vector register, with a ReorderInput or ReorderOutput where other operators begin. A layer that is
// optimised alone pays for both reorders at its edges, and adds a residual branch in a separate pass, because it cannot
// see that the branch is blocked too: ResNet-50 cut at every convolution takes half as long again.
//
// Forms therefore has the whole model optimised first, with every boundary tensor as an output so that none disappears.
// Where a ReorderOutput now makes a boundary tensor, it reads the same tensor in the blocked layout: its twin. Each
// layer takes the nodes that its outputs depend on, back to boundary tensors of earlier layers or their twins. It is
// loaded with optimisation off, runs the nodes that the whole model runs, and reads and writes blocked tensors. To a
// session these are ordinary tensors whose channels are rounded up to whole blocks.
//
// Two more things help. Inside the whole model a convolution that adds to a residual branch works in the branch's
// memory; a session must not write to its inputs and would copy first, unless its output is that same memory.
// Form.InPlace says where this is safe, and Buffers lets the two share. And buffers are placed by liveness, so that
// what a layer reads is still in the cache.
//
// Layers that other accelerators run keep the portable form. Both forms compute the same tensors under the same names,
// in layouts that Tensor.Block tells apart, so any layer can follow any other after a Reorder. What remains is the cost
// of a session's Run: 2 to 3 microseconds with its code and data in the cache, 5 to 30 after other layers have swept
// it. Short layers feel that.
//
// Other optimisations can reach across a boundary (the scale of an attention moves into the next matrix product). Forms
// then gives the portable form, and every accelerator optimises it alone.
package models
