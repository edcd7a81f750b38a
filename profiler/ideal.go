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
	idealWork = time.Second // after which it does not become larger
	leastSide = 256         // of the matrices
	mostSide  = 4096
	leastCopy = 16 << 20 // elements; beyond what caches hold
)

// measurePeak measures the accelerator's roofline: a product with a square matrix of weights, and a copy.
func (s *server) measurePeak() (*Peak, error) {
	p, begin := &Peak{}, time.Now()
	for side := int64(leastSide); ; side *= 2 {
		took, err := s.ideal("MatMul", []int64{side, side}, true)
		if err != nil {
			return nil, fmt.Errorf("matrix product: %w", err)
		}
		p.GMACs = math.Pow(float64(side), 3) / float64(took)
		if took >= idealLong || side >= mostSide || time.Since(begin) > idealWork {
			break
		}
	}
	took, err := s.ideal("Identity", []int64{leastCopy}, false)
	if err != nil {
		return nil, fmt.Errorf("copy: %w", err)
	}
	p.CopyGB = 2 * 4 * leastCopy / float64(took)
	return p, nil
}

// ideal is the least time that an operator takes on a tensor, and on weights of the same shape. Where the memory has
// events the tensors are there.
func (s *server) ideal(op string, shape []int64, weighted bool) (time.Duration, error) {
	u := idealUnit(op, shape, weighted)
	k, err := s.accelerator.Prepare(u)
	if err != nil {
		return 0, err
	}
	defer k.Close()
	var tensors [2][]*runtime.Tensor
	for n, info := range []models.Tensor{u.Inputs[0], u.Outputs[0]} {
		t, free, err := s.idealTensor(info)
		if err != nil {
			return 0, err
		}
		defer free()
		tensors[n] = []*runtime.Tensor{t}
	}
	run := func() error { return k.Run(tensors[0], tensors[1]) }
	best := time.Duration(math.MaxInt64)
	for n := range idealRuns {
		took, err := s.idealRun(run)
		if err != nil {
			return 0, err
		}
		best = min(best, took)
		if n >= 1 && took > time.Second { // a very slow accelerator
			break
		}
	}
	return best, nil
}

// idealRun times a run.
func (s *server) idealRun(run func() error) (time.Duration, error) {
	begin := time.Now()
	if s.pacer == nil {
		err := run()
		return max(1, time.Since(begin)), err
	}
	err := s.pacer.mark(0)
	if err == nil {
		err = run()
	}
	if err == nil {
		err = s.pacer.mark(1)
	}
	if err != nil {
		return 0, err
	}
	took, err := s.pacer.span(0, 1)
	return max(1, took), err
}

// idealTensor makes a tensor where the accelerator wants it, and what frees it.
func (s *server) idealTensor(info models.Tensor) (t *runtime.Tensor, free func(), err error) {
	host, err := runtime.NewTensor(info, uneven(info))
	if err != nil || s.pacer == nil {
		return host, host.Close, err
	}
	defer host.Close()
	b, err := s.memory.NewBuffer(int(info.Bytes()))
	if err != nil {
		return nil, nil, err
	}
	t = &runtime.Tensor{Tensor: info}
	free = func() { t.Close(); b.Close() }
	if err = b.Bind(t); err == nil {
		if err = s.memory.Copy(host, t); err == nil {
			err = s.memory.Wait()
		}
	}
	if err != nil {
		free()
		return nil, nil, err
	}
	return t, free, nil
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
