package zoo

import (
	"fmt"
	"math"
	"slices"
)

// tensor is a value of the network under construction. Its shape begins with
// the batch: [1, channels, height, width] for feature maps.
type tensor struct {
	name  string
	shape []int
}

func (x tensor) c() int { return x.shape[1] }
func (x tensor) h() int { return x.shape[2] }
func (x tensor) w() int { return x.shape[3] }

// dim is the size of an axis, counted from the last one where negative.
func (x tensor) dim(axis int) int {
	if axis < 0 {
		axis += len(x.shape)
	}
	return x.shape[axis]
}

// last is x's shape with another last dimension.
func (x tensor) last(size int) []int {
	shape := slices.Clone(x.shape)
	shape[len(shape)-1] = size
	return shape
}

func (n *net) reshape(x tensor, shape ...int) tensor {
	to := n.indices(n.next("Reshape")+".shape", shape, int64(len(shape)))
	return tensor{n.node("Reshape", []string{x.name, to}), shape}
}

func (n *net) transpose(x tensor, order ...int) tensor {
	shape := make([]int, len(order))
	for i, axis := range order {
		shape[i] = x.shape[axis]
	}
	return tensor{n.node("Transpose", []string{x.name}, attr("perm", order)), shape}
}

// combine is Add or Mul; b broadcasts to a.
func (n *net) combine(op string, a, b tensor) tensor {
	return tensor{n.node(op, []string{a.name, b.name}), a.shape}
}

// apply is an operator of one input that keeps the shape.
func (n *net) apply(op string, x tensor) tensor {
	return tensor{n.node(op, []string{x.name}), x.shape}
}

func (n *net) scalar(v float64) tensor {
	name := fmt.Sprintf("scalar_%g", v)
	if n.once(name) {
		n.constant(name, []float32{float32(v)})
	}
	return tensor{name, nil}
}

func (n *net) matmul(a, b tensor) tensor {
	return tensor{n.node("MatMul", []string{a.name, b.name}), a.last(b.dim(-1))}
}

// project multiplies the last dimension by a weight matrix whose spread keeps the variance.
func (n *net) project(x tensor, out int) tensor {
	spread := float32(math.Sqrt(3 / float64(x.dim(-1))))
	weight := n.store(n.next("MatMul")+".weight", 0, spread, int64(x.dim(-1)), int64(out))
	return n.matmul(x, tensor{weight, []int{x.dim(-1), out}})
}

// linear is project with a bias.
func (n *net) linear(x tensor, out int) tensor {
	y := n.project(x, out)
	return n.combine("Add", y, tensor{n.store(n.next("Add")+".bias", 0, 0.1, int64(out)), []int{out}})
}

// layerNorm normalises over the last dimension.
func (n *net) layerNorm(x tensor) tensor {
	name, c := n.next("LayerNormalization"), int64(x.dim(-1))
	return tensor{n.node("LayerNormalization", []string{
		x.name, n.store(name+".scale", 1, 0.1, c), n.store(name+".bias", 0, 0.1, c),
	}), x.shape}
}

// gelu is the exact Gaussian error linear unit, x (1 + erf(x/sqrt 2)) / 2, in
// the operators that exporters write before opset 20.
func (n *net) gelu(x tensor) tensor {
	y := n.apply("Erf", n.combine("Mul", x, n.scalar(math.Sqrt2/2)))
	y = n.combine("Mul", x, n.combine("Add", y, n.scalar(1)))
	return n.combine("Mul", y, n.scalar(0.5))
}

// softmax is over the last dimension.
func (n *net) softmax(x tensor) tensor {
	return tensor{n.node("Softmax", []string{x.name}, attr("axis", -1)), x.shape}
}

// slice takes the elements from first to before end of an axis.
func (n *net) slice(x tensor, axis, first, end int) tensor {
	name := n.next("Slice")
	shape := slices.Clone(x.shape)
	shape[axis] = end - first
	return tensor{n.node("Slice", []string{x.name,
		n.indices(name+".starts", []int{first}, 1), n.indices(name+".ends", []int{end}, 1),
		n.indices(name+".axes", []int{axis}, 1),
	}), shape}
}

// roll moves an axis left by some elements; what falls off comes back at the end.
func (n *net) roll(x tensor, axis, by int) tensor {
	size := x.shape[axis]
	return n.join(axis, n.slice(x, axis, by, size), n.slice(x, axis, 0, by))
}

// join concatenates along an axis.
func (n *net) join(axis int, parts ...tensor) tensor {
	shape := slices.Clone(parts[0].shape)
	shape[axis] = 0
	var names []string
	for _, p := range parts {
		names = append(names, p.name)
		shape[axis] += p.shape[axis]
	}
	return tensor{n.node("Concat", names, attr("axis", axis)), shape}
}

// gather picks elements along an axis.
func (n *net) gather(x tensor, axis int, at []int) tensor {
	return n.gatherNamed(x, axis, n.indices(n.next("Gather")+".indices", at, int64(len(at))), len(at))
}

// gatherNamed is gather with stored indices of the given shape.
func (n *net) gatherNamed(x tensor, axis int, indices string, shape ...int) tensor {
	return tensor{
		n.node("Gather", []string{x.name, indices}, attr("axis", axis)),
		slices.Concat(x.shape[:axis], shape, x.shape[axis+1:]),
	}
}
