package session

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/terastal/terastal/cmd/terastal/internal/config"
	pb "github.com/terastal/terastal/internal/onnxpb"
	"github.com/terastal/terastal/internal/ort"
	"github.com/terastal/terastal/internal/ort/orttest"
	"github.com/terastal/terastal/models"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched/plan"
	"github.com/terastal/terastal/variants"
)

// quiet is a meter that shows nothing.
type quiet struct{}

func (quiet) Set(float64) {}
func (quiet) Done()       {}

// productNetwork is a network of one matrix product.
func productNetwork(t *testing.T) *runtime.Network {
	t.Helper()
	orttest.Start(t)
	info := func(name string, columns int64) *pb.ValueInfoProto {
		shape := &pb.TensorShapeProto{}
		for _, d := range []int64{4, columns} {
			shape.Dim = append(shape.Dim, &pb.TensorShapeProto_Dimension{Value: &pb.TensorShapeProto_Dimension_DimValue{DimValue: d}})
		}
		return &pb.ValueInfoProto{Name: proto.String(name), Type: &pb.TypeProto{Value: &pb.TypeProto_TensorType{
			TensorType: &pb.TypeProto_Tensor{ElemType: proto.Int32(int32(pb.TensorProto_FLOAT)), Shape: shape}}}}
	}
	w := make([]float32, 16*8)
	for i := range w {
		w[i] = float32(math.Sin(float64(i)))
	}
	data, err := proto.Marshal(&pb.ModelProto{IrVersion: proto.Int64(8), OpsetImport: []*pb.OperatorSetIdProto{{Version: proto.Int64(17)}},
		Graph: &pb.GraphProto{Name: proto.String("g"), Input: []*pb.ValueInfoProto{info("x", 16)}, Output: []*pb.ValueInfoProto{info("y", 8)},
			Node:        []*pb.NodeProto{{OpType: proto.String("MatMul"), Input: []string{"x", "w"}, Output: []string{"y"}}},
			Initializer: []*pb.TensorProto{{Name: proto.String("w"), DataType: proto.Int32(int32(pb.TensorProto_FLOAT)), Dims: []int64{16, 8}, RawData: ort.Data(w)}}}})
	if err != nil {
		t.Fatal(err)
	}
	m, err := models.Parse("net", data, models.Options{})
	if err != nil {
		t.Fatal(err)
	}
	g, err := models.ParseGranularity("op")
	if err != nil {
		t.Fatal(err)
	}
	layers, err := m.Split(g)
	if err != nil {
		t.Fatal(err)
	}
	return &runtime.Network{Name: "net", Model: m, Layers: layers}
}

// withVariant is a flow that uses one variant of the network, of a family and
// made for one arithmetic, with the proof that a plan holds of it.
func withVariant(t *testing.T, n runtime.Network, family string, made variants.Arithmetic, proven, here string) (*Flow, *[]string) {
	t.Helper()
	list, _ := variants.Candidates(&n.Layers[0], true, made)
	c := list[slices.IndexFunc(list, func(c *variants.Candidate) bool { return c.Family == family })]
	data, err := c.ONNX()
	if err != nil {
		t.Fatal(err)
	}
	var notes []string
	f := &Flow{Config: &config.Config{Out: t.TempDir(), Arithmetic: here, Models: []config.Model{{Name: "net", Theta: 0.5}}},
		Networks: []*runtime.Network{&n}, sources: []source{{}},
		opts: Options{Progress: func(string) Meter { return quiet{} }, Note: func(format string, args ...any) { notes = append(notes, fmt.Sprintf(format, args...)) }}}
	if err := os.WriteFile(filepath.Join(f.Config.Out, "v.onnx"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	v := plan.Variants{Model: "net", Arithmetic: proven, Metric: "error", Chosen: []plan.Variant{{Name: c.Name(), File: "v.onnx", SHA256: variants.SHA256(data), Alone: 2}}}
	if err := f.use(0, v); err != nil {
		t.Fatal(err)
	}
	return f, &notes
}

// Where 8-bit weights compute something else than where they were proven, the
// proof is of no use; weights that cannot saturate, and float ones, compute the
// same everywhere.
func TestProofsAreForAnArithmetic(t *testing.T) {
	n := productNetwork(t)
	for _, c := range []struct {
		family       string
		made         variants.Arithmetic
		proven, here string
		stale        bool
	}{
		{"int8", variants.Exact, "exact", "exact", false},
		{"int8", variants.Exact, "saturating", "saturating", false},
		{"int8", variants.Exact, "exact", "saturating", true},
		{"int8", variants.Exact, "saturating", "exact", true},
		{"int8", variants.Exact, "", "exact", true},
		{"int8", variants.Saturating, "saturating", "exact", false},
		{"int8", variants.Saturating, "exact", "saturating", false},
		{"int8", variants.Saturating, "", "exact", false},
		{"pruned-int8", variants.Exact, "exact", "saturating", true},
		{"pruned-int8", variants.Saturating, "saturating", "exact", false},
		{"lowrank", variants.Exact, "exact", "saturating", false},
		{"lowrank", variants.Exact, "", "saturating", false},
	} {
		f, _ := withVariant(t, *n, c.family, c.made, c.proven, c.here)
		if f.stale[0] != c.stale {
			t.Errorf("%s for %s, proven for %q, here %s: to be proven again: %v", c.family, c.made, c.proven, c.here, f.stale[0])
		}
		if !c.stale {
			continue
		}
		if err := f.Plan(); err == nil || !strings.Contains(err.Error(), "terastal variants accuracy") {
			t.Errorf("%+v: planned with it: %v", c, err)
		}
	}
}

// A proof of another arithmetic is made again where there are data.
func TestProveAgain(t *testing.T) {
	f, notes := withVariant(t, *productNetwork(t), "int8", variants.Exact, "exact", "saturating")
	f.Config.Models[0].Labelled = config.Data{Source: "random", Count: 8}
	f.Config.Models[0].Metric = "error"
	if err := f.ProveAgain(t.Context()); err != nil {
		t.Fatal(err)
	}
	v := f.known[0]
	if len(f.stale) > 0 || v.Arithmetic != "saturating" || v.Requests != 8 || len(v.Sets) != 2 || v.Chosen[0].Alone == 2 {
		t.Errorf("proven again: %+v, stale %v", v, f.stale)
	}
	if len(*notes) == 0 || !strings.Contains((*notes)[0], "proven for 8-bit arithmetic that is exact, here it is saturating: proving them again") {
		t.Errorf("notes %q", *notes)
	}
}

// Without data the variants are left out, in one line, and stay in the plan.
func TestProofsOfAnotherArithmeticAreRefused(t *testing.T) {
	f, notes := withVariant(t, *productNetwork(t), "int8", variants.Exact, "", "exact")
	if err := f.ProveAgain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(f.stale)+len(f.known) > 0 || f.Networks[0].Variants != nil || f.sources[0].Variants != nil || len(f.unused) != 1 || !f.unused[0].Off {
		t.Errorf("known %+v, unused %+v", f.known, f.unused)
	}
	if len(*notes) != 1 || !strings.Contains((*notes)[0], "unknown, here it is exact: they are not used; name labelled or calibration data") {
		t.Errorf("notes %q", *notes)
	}
	// Data that are not there are an error, with what to do.
	f, _ = withVariant(t, *productNetwork(t), "int8", variants.Exact, "", "exact")
	f.Config.Models[0].Calibration = config.Data{Source: "nowhere.npy"}
	if err := f.ProveAgain(t.Context()); err == nil || !strings.Contains(err.Error(), "`variants: off`") || strings.Contains(err.Error(), "\n") {
		t.Errorf("proven again on nothing: %v", err)
	}
}
