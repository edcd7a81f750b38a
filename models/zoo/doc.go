// Package zoo builds standard network architectures as ONNX models with seeded
// random weights, for measuring latency: how long a layer takes does not
// depend on trained values. Parameter and multiply-accumulate counts are the
// published ones where there are any; Architecture says so for each network.
// Nothing here says anything about accuracy.
//
// An architecture is a function over a net: it takes the input feature map,
// composes blocks (conv, residual, inverted bottleneck, branches; attention
// and graph convolution on tensors) and names its outputs. To add one, write
// that function and an entry in architectures.
package zoo
