// Package zoo builds standard network architectures as ONNX models with seeded random weights, for measuring latency:
// how long a layer takes does not depend on trained values. Parameter and multiply-accumulate counts are the published
// ones where there are any; Architecture says so for each network. Random weights say nothing about accuracy.
//
// For accuracy there are a few small networks with trained weights, which name the characters that internal/glyphs
// renders. They are files here, made by scripts/train_glyphs.py. Layers of three of them have trained variants (D2S),
// made by scripts/train_variants.py.
//
// An architecture is a function over a net: it takes the input feature map, composes blocks (conv, residual, inverted
// bottleneck, branches; attention and graph convolution on tensors) and names its outputs. To add one, write that
// function and an entry in architectures. A trained one is an entry and a file in trained.
package zoo
