package main

import (
	"errors"
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
	"github.com/terastal/terastal/internal/testkit"
)

// The scripts run the real binary, which starts itself again to probe providers.
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
	library := testkit.Must(ort.Locate(""))(t)
	openvino := ort.Installed("openvino")
	nvml := testkit.Must(filepath.Abs("../../internal/nvml/testdata/fake.c"))(t)
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "script"),
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", binaries+string(os.PathListSeparator)+env.Getenv("PATH"))
			env.Setenv("ONNXRUNTIME_LIB", library.Path)
			env.Setenv("OPENVINO", openvino)
			env.Setenv("FAKE_NVML", nvml)
			if err := os.WriteFile(filepath.Join(env.WorkDir, "determinant.onnx"), determinant(t), 0o644); err != nil {
				return err
			}
			for _, name := range []string{"VK_DRIVER_FILES", "VK_ICD_FILENAMES", "LD_LIBRARY_PATH", "LD_PRELOAD",
				"XDG_RUNTIME_DIR"} {
				if value, set := os.LookupEnv(name); set {
					env.Setenv(name, value)
				}
			}
			env.Setenv("TERASTAL_CACHE", filepath.Join(env.WorkDir, ".cache"))
			if err := os.WriteFile(filepath.Join(env.WorkDir, "choice.onnx"), choice(t), 0o644); err != nil {
				return err
			}
			if err := detour().write(filepath.Join(env.WorkDir, "detour.onnx")); err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(env.WorkDir, "unknown-op.onnx"), unknownOperator(t), 0o644)
		},
		// [openvino]: its plugin is installed. [webgpu]: there is a Vulkan device, real or software.
		Condition: func(name string) (bool, error) {
			switch name {
			case "openvino":
				return openvino != "", nil
			case "webgpu":
			default:
				return false, fmt.Errorf("there is no condition %q", name)
			}
			opens := ort.Probe(ort.Config{Provider: "webgpu"}) == nil
			if !opens && os.Getenv("TERASTAL_REQUIRE_WEBGPU") == "1" {
				return false, errors.New("WebGPU finds no device")
			}
			return opens, nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"await":   await,
			"exits":   exits,
			"query":   query,
			"npy":     writeArray,
			"variant": makeVariant,
		},
	})
}

// unknownOperator is a well-formed model with an operator that does not exist.
func unknownOperator(t *testing.T) []byte {
	n := onnxpb.NewNode("Frobnicate", []string{"x"}, []string{"y"}).Named("first")
	return model(t, n, onnxpb.NewValue("x", ort.Float, 4))
}

// choice is a model of one If.
func choice(t *testing.T) []byte {
	n := onnxpb.NewNode("If", []string{"which"}, []string{"y"}).Named("either")
	for branch, op := range map[string]string{"then_branch": "Neg", "else_branch": "Abs"} {
		n.Attribute = append(n.Attribute, onnxpb.NewAttribute(branch, &onnxpb.GraphProto{
			Name: proto.String(branch), Output: []*onnxpb.ValueInfoProto{onnxpb.NewValue(op, ort.Float, 4)},
			Node: []*onnxpb.NodeProto{onnxpb.NewNode(op, []string{"x"}, []string{op})},
		}))
	}
	return model(t, n, onnxpb.NewValue("x", ort.Float, 4), onnxpb.NewValue("which", ort.Bool))
}

// determinant is a model of two matrix products and a determinant, which few providers take.
func determinant(t *testing.T) []byte {
	node := func(name, op, output string, inputs ...string) *onnxpb.NodeProto {
		return onnxpb.NewNode(op, inputs, []string{output}).Named(name)
	}
	data, err := proto.Marshal(onnxpb.NewModel(&onnxpb.GraphProto{
		Name:   proto.String("g"),
		Input:  []*onnxpb.ValueInfoProto{onnxpb.NewValue("x", ort.Float, 2, 3, 3)},
		Output: []*onnxpb.ValueInfoProto{onnxpb.NewValue("y", ort.Float, 2)},
		Node: []*onnxpb.NodeProto{
			node("square", "MatMul", "s", "x", "x"), node("cube", "MatMul", "c", "s", "x"), node("volume", "Det", "y", "c"),
		},
	}, 17))
	testkit.OK(t, err)
	return data
}

// model is a model of one node, which makes y.
func model(t *testing.T, n *onnxpb.NodeProto, inputs ...*onnxpb.ValueInfoProto) []byte {
	return testkit.Must(proto.Marshal(onnxpb.NewModel(&onnxpb.GraphProto{
		Name: proto.String("g"), Node: []*onnxpb.NodeProto{n},
		Input: inputs, Output: []*onnxpb.ValueInfoProto{onnxpb.NewValue("y", ort.Float, 4)},
	}, 17)))(t)
}
