// Package rig builds for tests what runs: networks and accelerators. It stands on
// the runtime; testkit has what tests further down share.
package rig

import (
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/terastal/terastal/internal/onnxpb"
	"github.com/terastal/terastal/internal/ort/orttest"
	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/models"
	"github.com/terastal/terastal/models/zoo"
	"github.com/terastal/terastal/runtime"
)

// Build makes a network of the zoo in layers, as a measuring process needs it.
func Build(name, granularity string) (*runtime.Network, error) {
	data, err := zoo.Build(name, 1)
	if err != nil {
		return nil, err
	}
	m, err := models.Parse(name, data, models.Options{})
	if err != nil {
		return nil, err
	}
	return runtime.NewNetwork(name, m, granularity)
}

// Network is Build in a test, which is skipped without ONNX Runtime.
func Network(t testing.TB, name, granularity string) *runtime.Network {
	t.Helper()
	orttest.Start(t)
	return testkit.Must(Build(name, granularity))(t)
}

// Graph is a network of a graph in operators of an opset.
func Graph(t testing.TB, name string, graph *onnxpb.GraphProto, opset int64, granularity string) *runtime.Network {
	t.Helper()
	orttest.Start(t)
	graph.Name = proto.String("g")
	data := testkit.Must(proto.Marshal(onnxpb.NewModel(graph, opset)))(t)
	m := testkit.Must(models.Parse(name, data, models.Options{}))(t)
	return testkit.Must(runtime.NewNetwork(name, m, granularity))(t)
}

// Accelerators opens accelerators, and closes them when the test is over.
func Accelerators(t testing.TB, specs ...runtime.Spec) (list []runtime.Accelerator) {
	t.Helper()
	orttest.Start(t)
	for _, s := range specs {
		a := testkit.Must(runtime.OpenORT(s))(t)
		t.Cleanup(func() { a.Close() })
		list = append(list, a)
	}
	return list
}
