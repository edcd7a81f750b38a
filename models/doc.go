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
package models
