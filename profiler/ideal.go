package profiler

import (
	"fmt"
	"math"
	"time"

	"google.golang.org/protobuf/proto"

	pb "github.com/terastal/terastal/internal/onnxpb"
	"github.com/terastal/terastal/internal/ort"
	"github.com/terastal/terastal/models"
	"github.com/terastal/terastal/runtime"
)

// The ideal work that tells an accelerator's roofline is made larger until it takes long, or is as large as it may
// become: a GPU needs more than a core.
const (
	idealLong = 4 * time.Millisecond
	idealRuns = 8
	leastSide = 256 // of the matrices
	mostSide  = 4096
	leastCopy = 16 << 20 // elements; beyond what caches hold
)

// measurePeak measures an accelerator's roofline: a product with a square matrix of weights, and a copy.
func measurePeak(a runtime.Accelerator) (*Peak, error) {
	p := &Peak{}
	for side := int64(leastSide); ; side *= 2 {
		took, err := ideal(a, "MatMul", []int64{side, side}, true)
		if err != nil {
			return nil, fmt.Errorf("matrix product: %w", err)
		}
		p.GMACs = math.Pow(float64(side), 3) / float64(took)
		if took >= idealLong || side >= mostSide {
			break
		}
	}
	took, err := ideal(a, "Identity", []int64{leastCopy}, false)
	if err != nil {
		return nil, fmt.Errorf("copy: %w", err)
	}
	p.CopyGB = 2 * 4 * leastCopy / float64(took)
	return p, nil
}

// ideal is the least time that an operator takes on a tensor, and on weights of the same shape.
func ideal(a runtime.Accelerator, op string, shape []int64, weighted bool) (time.Duration, error) {
	u := idealUnit(op, shape, weighted)
	k, err := a.Prepare(u)
	if err != nil {
		return 0, err
	}
	defer k.Close()
	in, err := runtime.NewTensor(u.Inputs[0], uneven(u.Inputs[0]))
	if err != nil {
		return 0, err
	}
	defer in.Close()
	out, err := runtime.NewTensor(u.Outputs[0], make([]byte, u.Outputs[0].Bytes()))
	if err != nil {
		return 0, err
	}
	defer out.Close()
	best := time.Duration(math.MaxInt64)
	for n := range idealRuns {
		begin := time.Now()
		if err := k.Run([]*runtime.Tensor{in}, []*runtime.Tensor{out}); err != nil {
			return 0, err
		}
		took := max(1, time.Since(begin))
		best = min(best, took)
		if n >= 1 && took > time.Second { // a very slow accelerator
			break
		}
	}
	return best, nil
}

// uneven is data for a tensor. Zeros would do for the clock, but not for a processor that skips them.
func uneven(t models.Tensor) []byte {
	data := make([]byte, t.Bytes())
	for i, v := 0, ort.Numbers[float32](data); i < len(v); i++ {
		v[i] = float32(4*i%1021) / 1021
	}
	return data
}

// idealUnit is an operator that makes the tensor c of a and, if it is weighted, of the weights b.
func idealUnit(op string, shape []int64, weighted bool) runtime.Unit {
	in := models.Tensor{Name: "a", Type: ort.Float, Shape: shape}
	out := models.Tensor{Name: "c", Type: ort.Float, Shape: shape}
	inputs := []string{"a", "b"}[:1+count(weighted)]
	graph := &pb.GraphProto{Name: proto.String("ideal"), Node: []*pb.NodeProto{pb.NewNode(op, inputs, []string{"c"})},
		Input:  []*pb.ValueInfoProto{pb.NewValue("a", in.Type, shape...)},
		Output: []*pb.ValueInfoProto{pb.NewValue("c", out.Type, shape...)}}
	if weighted {
		graph.Initializer = []*pb.TensorProto{pb.NewTensor("b", in.Type, uneven(in), shape...)}
	}
	data, err := proto.Marshal(pb.NewModel(graph, 17))
	if err != nil {
		panic("profiler: " + err.Error()) // a model of constants
	}
	return runtime.Unit{Name: "ideal " + op, ONNX: data, Inputs: []models.Tensor{in}, Outputs: []models.Tensor{out}}
}
