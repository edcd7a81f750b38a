// Package models loads ONNX models, checks them, and splits them into layers:
// runs of nodes that are valid ONNX models of their own and that, executed in
// order, compute exactly what the whole model computes. It is for whoever
// profiles, schedules or runs models layer by layer. It does not schedule, and
// it runs models only to learn shapes and costs and to verify a split.
//
//	ort.Start("")
//	m, err := models.Load("resnet50.onnx", models.Options{})
//	g, err := models.ParseGranularity("block")
//	layers, err := m.Split(g)
//	v, err := models.Verify(m, layers, models.RandomInputs(m, 1), "none")
//
// # How a model is cut
//
// The file is checked structurally before ONNX Runtime sees it, and its
// symbolic dimensions are bound. ONNX Runtime then writes its basic-optimised
// form: constants folded, BatchNormalization merged into convolutions, dead
// nodes dropped, local functions inlined, all in standard operators. That
// graph is what is cut, so that no optimisation across a cut is lost that
// would still be portable to every execution provider. One run with every
// value as an output gives real types and shapes; nothing is inferred by hand.
//
// A cut separates nodes in topological order. Whatever is alive across it is
// carried by name: a layer reads only what its own nodes read, and a tensor
// that skips layers stays in its buffer until its last reader (Buffers gives
// all of them places in one block). So any graph can be cut anywhere, except
// within a quantised operator's DequantizeLinear and QuantizeLinear, and where
// a value is alive that has no fixed size. If, Loop and Scan stay whole; what
// their bodies capture from around them becomes a layer input.
//
// # How the cut comes to cost almost nothing
//
// ONNX Runtime's CPU provider optimises further before it runs a model. It
// fuses (a convolution with its activation and with the sum of a residual
// branch), and it moves convolutions to a layout of its own, NCHWc: channels in
// blocks as wide as a vector register, weights rearranged once, operators that
// stay within it one after the other, and a ReorderInput or ReorderOutput where
// other operators begin. A layer that is optimised on its own pays for both
// reorders at its edges, and adds a residual branch in a pass of its own, for
// it cannot see that the branch is blocked too: ResNet-50 cut at every
// convolution takes half as long again.
//
// Forms therefore has the whole model optimised first, with every boundary
// tensor as an output, so that none can disappear. Where the optimised graph
// now makes a boundary tensor by a ReorderOutput, what the ReorderOutput reads is
// the same tensor in the blocked layout, its twin. Each layer takes the nodes
// that its outputs depend on, back to boundary tensors of earlier layers or
// their twins, is written out in that form, and is loaded with optimisation off:
// it runs the nodes that the whole model runs, and reads and writes blocked
// tensors. NCHWc is an ordinary dense tensor whose channels are rounded up to
// whole blocks, so that it can pass from session to session.
//
// Two more things are needed. A convolution that adds to a residual branch
// works in the branch's memory inside the whole model; a session must not write
// to its inputs, and would copy first. When the output that it is given is that
// same memory, the copy is skipped: Form.InPlace says where this is safe, and
// Buffers lets the two share. And buffers are placed by liveness, because what a
// layer reads should still be in the cache.
//
// Layers that other accelerators run keep the portable form. Both compute the
// same tensors under the same names, in layouts that Tensor.Block tells apart, so
// any layer can follow any other after a Reorder, which is a handoff to be
// measured. What remains is what a session's Run costs: 2 to 3 microseconds with
// its code and data in the cache, 5 to 30 after layers have swept the caches,
// which shows where layers are short.
//
// Other optimisations can reach across a boundary (the scale of an attention
// moves into the next matrix product). Forms then gives the portable form, which
// every accelerator optimises on its own.
package models
