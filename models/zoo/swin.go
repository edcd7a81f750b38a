package zoo

import (
	"fmt"
	"math"
)

const (
	swinWindow = 7
	swinTokens = swinWindow * swinWindow // of one window
	headWidth  = 32
)

// swin is the Swin Transformer of Liu et al. (2021) at ImageNet size, as torchvision builds it; width is that of the
// first stage, and each head is 32 wide.
func swin(width int, depths ...int) func(*net, tensor) {
	return func(n *net, image tensor) {
		patches := n.conv(image, conv{out: width, k: 4, stride: 4, valid: true, bias: true})
		x := n.layerNorm(n.transpose(patches, 0, 2, 3, 1))
		for stage, depth := range depths {
			if stage > 0 {
				x = n.mergePatches(x)
			}
			for i := range depth {
				x = n.combine("Add", x, n.windowAttention(n.layerNorm(x), i%2 == 1))
				y := n.linear(n.layerNorm(x), 4*x.dim(-1))
				x = n.combine("Add", x, n.linear(n.gelu(y), x.dim(-1)))
			}
		}
		x = n.layerNorm(x)
		mean := n.node("ReduceMean", []string{x.name}, attr("axes", []int{1, 2}), attr("keepdims", 0))
		n.output("output", n.dense(tensor{mean, []int{1, x.dim(-1)}}, 1000))
	}
}

// mergePatches makes one token of each two by two, twice as wide.
func (n *net) mergePatches(x tensor) tensor {
	h, w, c := x.dim(1), x.dim(2), x.dim(3)
	y := n.transpose(n.reshape(x, 1, h/2, 2, w/2, 2, c), 0, 1, 3, 4, 2, 5)
	return n.project(n.layerNorm(n.reshape(y, 1, h/2, w/2, 4*c)), 2*c)
}

// windowAttention is multi-head self-attention inside windows of tokens [1, h, w, c]. Shifted windows lie half a window
// further and wrap around, unless one window is all there is.
func (n *net) windowAttention(x tensor, shifted bool) tensor {
	h, w, c := x.dim(1), x.dim(2), x.dim(3)
	shifted = shifted && h > swinWindow
	if shifted {
		x = n.roll(n.roll(x, 1, swinWindow/2), 2, swinWindow/2)
	}
	rows, columns, heads := h/swinWindow, w/swinWindow, c/headWidth
	windows := rows * columns
	x = n.transpose(n.reshape(x, rows, swinWindow, columns, swinWindow, c), 0, 2, 1, 3, 4)
	x = n.linear(n.reshape(x, windows, swinTokens, c), 3*c)
	x = n.transpose(n.reshape(x, windows, swinTokens, 3, heads, headWidth), 2, 0, 3, 1, 4)
	part := func(i int) tensor {
		return n.reshape(n.slice(x, 0, i, i+1), windows, heads, swinTokens, headWidth)
	}
	query := n.combine("Mul", part(0), n.scalar(1/math.Sqrt(headWidth)))
	scores := n.matmul(query, n.transpose(part(1), 0, 1, 3, 2))
	scores = n.combine("Add", scores, n.positionBias(heads, rows, columns, shifted))
	y := n.transpose(n.matmul(n.softmax(scores), part(2)), 0, 2, 1, 3)
	y = n.linear(n.reshape(y, windows, swinTokens, c), c)
	y = n.transpose(n.reshape(y, rows, columns, swinWindow, swinWindow, c), 0, 2, 1, 3, 4)
	y = n.reshape(y, 1, h, w, c)
	if shifted {
		y = n.roll(n.roll(y, 1, h-swinWindow/2), 2, w-swinWindow/2)
	}
	return y
}

// positionBias is what a pair of tokens adds to its score: the learned bias of their relative position and, in shifted
// windows, minus 100 where a window joins opposite edges of the image. Nothing in it depends on the image, so constant
// folding leaves one tensor.
func (n *net) positionBias(heads, rows, columns int, shifted bool) tensor {
	const index, span = "relative_position_index", 2*swinWindow - 1
	if n.once(index) {
		n.indices(index, relativePositions(), swinTokens, swinTokens)
	}
	name := n.next("Gather") + ".relative_position_bias"
	table := tensor{n.store(name, 0, 0.1, span*span, int64(heads)), []int{span * span, heads}}
	bias := n.transpose(n.gatherNamed(table, 0, index, swinTokens, swinTokens), 2, 0, 1)
	if !shifted {
		return bias
	}
	mask := fmt.Sprintf("apart_%dx%d", rows, columns)
	if n.once(mask) {
		n.mask(mask, apart(rows, columns), int64(rows*columns), 1, swinTokens, swinTokens)
	}
	shape := []int{rows * columns, 1, swinTokens, swinTokens}
	far := tensor{n.node("Where", []string{mask, n.scalar(-100).name, n.scalar(0).name}), shape}
	return n.combine("Add", far, bias)
}

// relativePositions numbers, for each pair of tokens of a window, how far they lie apart in both directions.
func relativePositions() []int {
	var index []int
	for i := range swinTokens {
		for j := range swinTokens {
			down := i/swinWindow - j/swinWindow + swinWindow - 1
			right := i%swinWindow - j%swinWindow + swinWindow - 1
			index = append(index, down*(2*swinWindow-1)+right)
		}
	}
	return index
}

// apart marks the pairs of tokens of each shifted window that are no neighbours
// in the image: those from different sides of where it wrapped around.
func apart(rows, columns int) []bool {
	wrapped := func(window, windows, at int) bool {
		return window == windows-1 && at >= swinWindow-swinWindow/2
	}
	var pairs []bool
	for window := range rows * columns {
		side := func(token int) [2]bool {
			return [2]bool{
				wrapped(window/columns, rows, token/swinWindow),
				wrapped(window%columns, columns, token%swinWindow),
			}
		}
		for i := range swinTokens {
			for j := range swinTokens {
				pairs = append(pairs, side(i) != side(j))
			}
		}
	}
	return pairs
}
