package zoo

import (
	"embed"
	"io/fs"
)

// fitted holds what `make variants` wrote.
//
//go:embed trained/fitted
var fitted embed.FS

// FittedGranularity is the granularity at which a network has to be split for
// its fitted variants.
const FittedGranularity = "block"

// Fitted is the folder of the layer variants that were fitted for a trained
// network, at FittedGranularity: variants.json, which describes them as a plan
// does (package sched/plan), without latencies and accuracies, which are those
// of a machine, and the ONNX models that it names. Weights of 8-bit variants
// have 7 bits where some processor's sums would saturate, so that all compute
// the same everywhere. Nil for networks that have none.
func Fitted(network string) fs.FS {
	folder := "trained/fitted/" + network
	if _, err := fs.Stat(fitted, folder); err != nil {
		return nil
	}
	sub, _ := fs.Sub(fitted, folder) // fails for invalid names only
	return sub
}
