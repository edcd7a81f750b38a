package profiler

import (
	"context"
	"fmt"
	"math"
	"time"

	"google.golang.org/protobuf/proto"

	pb "github.com/terastal/terastal/internal/onnxpb"
	"github.com/terastal/terastal/internal/ort"
	"github.com/terastal/terastal/models"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/traffic"
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
	info := func(t models.Tensor) []*pb.ValueInfoProto {
		dims := &pb.TensorShapeProto{}
		for _, d := range t.Shape {
			dims.Dim = append(dims.Dim,
				&pb.TensorShapeProto_Dimension{Value: &pb.TensorShapeProto_Dimension_DimValue{DimValue: d}})
		}
		return []*pb.ValueInfoProto{{Name: proto.String(t.Name), Type: &pb.TypeProto{Value: &pb.TypeProto_TensorType{
			TensorType: &pb.TypeProto_Tensor{ElemType: proto.Int32(int32(t.Type)), Shape: dims}}}}}
	}
	node := &pb.NodeProto{OpType: proto.String(op), Input: []string{in.Name}, Output: []string{out.Name}}
	graph := &pb.GraphProto{Name: proto.String("ideal"), Input: info(in), Output: info(out), Node: []*pb.NodeProto{node}}
	if weighted {
		node.Input = append(node.Input, "b")
		graph.Initializer = []*pb.TensorProto{{Name: proto.String("b"),
			DataType: proto.Int32(int32(pb.TensorProto_FLOAT)), Dims: shape, RawData: uneven(in)}}
	}
	data, err := proto.Marshal(&pb.ModelProto{
		IrVersion: proto.Int64(8), OpsetImport: []*pb.OperatorSetIdProto{{Version: proto.Int64(17)}}, Graph: graph})
	if err != nil {
		panic("profiler: " + err.Error()) // a model of constants
	}
	return runtime.Unit{Name: "ideal " + op, ONNX: data, Inputs: []models.Tensor{in}, Outputs: []models.Tensor{out}}
}

// gaps plays the traffic on the real executor and lists the times between the end of a layer and the start of the next
// on one accelerator.
func gaps(ex *runtime.Executor, traffic traffic.Config, accelerator int) ([]time.Duration, error) {
	r, err := ex.Run(context.Background(), runtime.Options{Policy: "fcfs", Drop: sched.DropNone, Traffic: traffic, Log: true})
	if err != nil {
		return nil, err
	}
	var out []time.Duration
	before := time.Duration(-1)
	for i := range r.Log.Records {
		rec := &r.Log.Records[i]
		if rec.Kind != sched.Completed || int(rec.Accelerator) != accelerator {
			continue
		}
		if before >= 0 {
			out = append(out, max(1, rec.Start-before))
		}
		before = rec.At
	}
	return out[:min(len(out), maxSamples)], nil
}
