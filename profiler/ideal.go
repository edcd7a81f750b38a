package profiler

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	pb "github.com/terastal/terastal/internal/onnxpb"
	"github.com/terastal/terastal/internal/ort"
	"github.com/terastal/terastal/models"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/traffic"
)

// The ideal work that tells an accelerator's roofline is made larger until it
// takes long, or is as large as it may become: a GPU needs more than a core.
const (
	idealLong = 4 * time.Millisecond
	idealRuns = 8
	leastSide = 256 // of the matrices
	mostSide  = 4096
	leastCopy = 16 << 20 // elements; beyond what caches hold
)

// measurePeak measures an accelerator's roofline.
func measurePeak(a runtime.Accelerator) (*Peak, error) {
	p := &Peak{}
	for side := int64(leastSide); ; side *= 2 {
		took, err := ideal(a, product(side))
		if err != nil {
			return nil, fmt.Errorf("matrix product: %w", err)
		}
		p.GMACs = math.Pow(float64(side), 3) / float64(took)
		if took >= idealLong || side >= mostSide {
			break
		}
	}
	took, err := ideal(a, copying(leastCopy))
	if err != nil {
		return nil, fmt.Errorf("copy: %w", err)
	}
	p.CopyGB = 2 * 4 * leastCopy / float64(took)
	return p, nil
}

// ideal is the least time that a unit takes.
func ideal(a runtime.Accelerator, u runtime.Unit) (time.Duration, error) {
	k, err := a.Prepare(u)
	if err != nil {
		return 0, err
	}
	defer k.Close()
	var in, out []*runtime.Tensor
	defer func() {
		for _, t := range slices.Concat(in, out) {
			t.Close()
		}
	}()
	for _, list := range []struct {
		infos []models.Tensor
		to    *[]*runtime.Tensor
	}{{u.Inputs, &in}, {u.Outputs, &out}} {
		for _, info := range list.infos {
			t, err := runtime.NewTensor(info, make([]byte, info.Bytes()))
			if err != nil {
				return 0, err
			}
			*list.to = append(*list.to, t)
		}
	}
	// Zeros would do for the clock, but not for a processor that skips them.
	for _, t := range in {
		for i, v := 0, ort.Numbers[float32](t.Data); i < len(v); i++ {
			v[i] = float32(4*i%1021) / 1021
		}
	}
	best := time.Duration(math.MaxInt64)
	for n := range idealRuns {
		begin := time.Now()
		if err := k.Run(in, out); err != nil {
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

// product multiplies two square matrices, the second of which is a weight.
func product(side int64) runtime.Unit {
	in := models.Tensor{Name: "a", Type: ort.Float, Shape: []int64{side, side}}
	out := models.Tensor{Name: "c", Type: ort.Float, Shape: []int64{side, side}}
	weights := make([]float32, side*side)
	for i := range weights {
		weights[i] = float32(4*i%1019) / 1019
	}
	w := &pb.TensorProto{Name: proto.String("b"), DataType: proto.Int32(int32(pb.TensorProto_FLOAT)), Dims: []int64{side, side}, RawData: ort.Data(weights)}
	return idealUnit("MatMul", []string{"a", "b"}, in, out, w)
}

// copying copies a tensor of so many elements.
func copying(elements int64) runtime.Unit {
	in := models.Tensor{Name: "a", Type: ort.Float, Shape: []int64{elements}}
	out := models.Tensor{Name: "c", Type: ort.Float, Shape: []int64{elements}}
	return idealUnit("Identity", []string{"a"}, in, out)
}

func idealUnit(op string, inputs []string, in, out models.Tensor, weights ...*pb.TensorProto) runtime.Unit {
	info := func(t models.Tensor) *pb.ValueInfoProto {
		shape := &pb.TensorShapeProto{}
		for _, d := range t.Shape {
			shape.Dim = append(shape.Dim, &pb.TensorShapeProto_Dimension{Value: &pb.TensorShapeProto_Dimension_DimValue{DimValue: d}})
		}
		return &pb.ValueInfoProto{Name: proto.String(t.Name), Type: &pb.TypeProto{Value: &pb.TypeProto_TensorType{
			TensorType: &pb.TypeProto_Tensor{ElemType: proto.Int32(int32(t.Type)), Shape: shape}}}}
	}
	data, err := proto.Marshal(&pb.ModelProto{
		IrVersion:   proto.Int64(8),
		OpsetImport: []*pb.OperatorSetIdProto{{Version: proto.Int64(17)}},
		Graph: &pb.GraphProto{
			Name: proto.String("ideal"), Input: []*pb.ValueInfoProto{info(in)}, Output: []*pb.ValueInfoProto{info(out)}, Initializer: weights,
			Node: []*pb.NodeProto{{OpType: proto.String(op), Input: inputs, Output: []string{out.Name}}},
		},
	})
	if err != nil {
		panic("profiler: " + err.Error()) // a model of constants
	}
	return runtime.Unit{Name: "ideal " + op, ONNX: data, Inputs: []models.Tensor{in}, Outputs: []models.Tensor{out}}
}

// gaps plays the traffic on the real executor and lists the times between the
// end of a layer and the start of the next on one accelerator.
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
