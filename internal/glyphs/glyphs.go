package glyphs

import (
	"fmt"
	"math/rand/v2"
)

// Size is the width and the height of an image in pixels.
const Size = 48

// Classes are the characters, in order of their labels. Left out is what little but its size tells from another: O next
// to 0, I and l next to 1, and the lower case of C, I to M, O, P, S and U to Z.
const Classes = "0123456789ABCDEFGHJKLMNPQRSTUVWXYZabdefghnqrt"

// Split is a part of the data set, of 2^32 images.
type Split uint32

// The splits: to train on, to fit variants and scales with, and to measure accuracy on, for nothing else.
const (
	Train Split = iota
	Calibration
	Test
)

var splitNames = [...]string{"train", "calibration", "test"}

func (s Split) String() string {
	if int(s) < len(splitNames) {
		return splitNames[s]
	}
	return fmt.Sprintf("Split(%d)", uint32(s))
}

// ParseSplit reads the name of a split: train, calibration or test.
func ParseSplit(name string) (Split, error) {
	for i, n := range splitNames {
		if n == name {
			return Split(i), nil
		}
	}
	return 0, fmt.Errorf("split %q: want train, calibration or test", name)
}

// ID is what all about an image follows from.
func ID(s Split, index uint32) uint64 { return uint64(s)<<32 | uint64(index) }

// Label is the class of an image, an index into Classes. Consecutive images
// cycle through the classes, so a run of them is balanced: shuffle to train.
func Label(index uint32) int { return int(index % uint32(len(Classes))) }

// Image renders an image: Size x Size bytes in rows from the top, 0 black and 255 white, and its label.
func Image(s Split, index uint32) (pixels []byte, label int) {
	label = Label(index)
	return render(rand.New(rand.NewPCG(0x676c79706873, ID(s, index))), label), label
}

// Tensor makes pixels what the trained networks read, of shape
// [1, 1, Size, Size]: from -2 for black to about 2 for white.
func Tensor(pixels []byte) []float32 {
	out := make([]float32, len(pixels))
	for i, p := range pixels {
		out[i] = (float32(p) - 128) / 64
	}
	return out
}
