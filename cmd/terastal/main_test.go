package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"google.golang.org/protobuf/proto"

	"github.com/terastal/terastal/internal/onnxpb"
	"github.com/terastal/terastal/internal/ort"
	"github.com/terastal/terastal/internal/ort/orttest"
)

// The scripts run the real binary, which starts itself again to probe
// providers.
var binaries string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "terastal")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		if out, err := exec.Command("go", "build", "-o", filepath.Join(dir, "terastal"), ".").CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build: %v\n%s", err, out)
			return 1
		}
		binaries = dir
		return m.Run()
	}())
}

// TestScripts plays what users do, and what they do wrong, at the command line.
func TestScripts(t *testing.T) {
	orttest.Start(t)
	library, err := ort.Locate("")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "script"),
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", binaries+string(os.PathListSeparator)+env.Getenv("PATH"))
			env.Setenv("ONNXRUNTIME_LIB", library.Path)
			env.Setenv("TERASTAL_CACHE", filepath.Join(env.WorkDir, ".cache"))
			return os.WriteFile(filepath.Join(env.WorkDir, "unknown-op.onnx"), unknownOperator(t), 0o644)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits,
			"query": query,
		},
	})
}

// unknownOperator is a well-formed model with an operator that does not exist.
func unknownOperator(t *testing.T) []byte {
	value := func(name string) *onnxpb.ValueInfoProto {
		return &onnxpb.ValueInfoProto{Name: proto.String(name), Type: &onnxpb.TypeProto{Value: &onnxpb.TypeProto_TensorType{
			TensorType: &onnxpb.TypeProto_Tensor{ElemType: proto.Int32(1), Shape: &onnxpb.TensorShapeProto{
				Dim: []*onnxpb.TensorShapeProto_Dimension{{Value: &onnxpb.TensorShapeProto_Dimension_DimValue{DimValue: 4}}}}}}}}
	}
	data, err := proto.Marshal(&onnxpb.ModelProto{
		IrVersion:   proto.Int64(8),
		OpsetImport: []*onnxpb.OperatorSetIdProto{{Domain: proto.String(""), Version: proto.Int64(17)}},
		Graph: &onnxpb.GraphProto{Name: proto.String("g"), Input: []*onnxpb.ValueInfoProto{value("x")}, Output: []*onnxpb.ValueInfoProto{value("y")},
			Node: []*onnxpb.NodeProto{{Name: proto.String("first"), OpType: proto.String("Frobnicate"), Input: []string{"x"}, Output: []string{"y"}}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return data
}
