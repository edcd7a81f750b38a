package zoo

import "embed"

// trained holds what scripts/train_glyphs.py wrote, a file per trained network.
//
//go:embed trained/*.onnx
var trained embed.FS

const (
	glyphTask   = "glyph classification"
	glyphSource = "trained on the images of internal/glyphs by scripts/train_glyphs.py; parameters are those of the file, with BatchNormalization folded and scalar constants counted"
)
