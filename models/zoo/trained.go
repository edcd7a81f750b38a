package zoo

import (
	"embed"
	"fmt"
	"io/fs"
	"strings"
)

// trained holds what scripts/train_glyphs.py wrote, a file per trained network.
//
//go:embed trained/*.onnx
var trained embed.FS

const (
	glyphTask   = "glyph classification"
	glyphSource = "trained on the images of internal/glyphs by scripts/train_glyphs.py; " +
		"parameters are those of the file, with BatchNormalization folded and scalar constants counted"
)

// d2sFiles holds what scripts/train_variants.py wrote: trained/d2s/NET/LAYER.onnx,
// with '-' for '/' in the layer's name.
//
//go:embed trained/d2s
var d2sFiles embed.FS

// TrainedVariant is another implementation of a layer of a trained network, in the published form (arXiv 2606.06818):
// DepthToSpace(Gamma), the layer's operator with 1/Gamma^2 of its input and output channels, SpaceToDepth(Gamma). Its
// weights were trained with the rest of the network frozen.
type TrainedVariant struct {
	// Layer is the layer's name where the network is split at every operator. Names that ONNX Runtime gives to what it
	// fuses are those of the version that scripts/setup-onnxruntime.sh installs.
	Layer string
	Gamma int
	// ONNX is the whole layer, with the inputs and outputs of the original.
	ONNX []byte
}

// d2sLayers are the layers with a variant, in the order of the network.
var d2sLayers = map[string][]string{
	"glyph_resnet": {
		"block1/conv2", "block2/conv2", "block3/conv1", "block3/conv2", "block4/conv1", "block4/conv2",
	},
	"glyph_vgg": {"conv2", "conv3", "conv4", "conv5", "dense"},
	"glyph_vit": {
		"stem3", "block1/qkv/MatMulAddFusion", "block2/qkv/MatMulAddFusion", "block3/qkv/MatMulAddFusion",
	},
}

// D2S returns the trained D2S variants of a network, in the order of its layers; none where no layer is faster in that
// form, and for networks that are not trained. The error matches [ErrUnknown] if there is no such network.
func D2S(name string) ([]TrainedVariant, error) {
	if _, err := Info(name); err != nil {
		return nil, err
	}
	var out []TrainedVariant
	for _, layer := range d2sLayers[name] {
		onnx, err := d2sFiles.ReadFile("trained/d2s/" + name + "/" + strings.ReplaceAll(layer, "/", "-") + ".onnx")
		if err != nil {
			return nil, fmt.Errorf("network %q layer %q: %w", name, layer, err)
		}
		out = append(out, TrainedVariant{Layer: layer, Gamma: 2, ONNX: onnx})
	}
	return out, nil
}

// fitted holds what `make variants` wrote.
//
//go:embed trained/fitted
var fitted embed.FS

// FittedGranularity is the granularity at which a network has to be split for its fitted variants.
const FittedGranularity = "block"

// Fitted is the folder of the layer variants that were fitted for a trained network, at FittedGranularity:
// variants.json, which describes them as a plan does (package sched/plan), without latencies and accuracies, which are
// those of a machine, and the ONNX models that it names. Weights of 8-bit variants have 7 bits where some processor's
// sums would saturate, so that all compute the same everywhere. Nil for networks that have none.
func Fitted(network string) fs.FS {
	folder := "trained/fitted/" + network
	if _, err := fs.Stat(fitted, folder); err != nil {
		return nil
	}
	sub, _ := fs.Sub(fitted, folder) // fails for invalid names only
	return sub
}
