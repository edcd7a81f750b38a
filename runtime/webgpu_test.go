package runtime_test

import (
	"context"
	"errors"
	"testing"
	"time"

	pb "github.com/terastal/terastal/internal/onnxpb"
	"github.com/terastal/terastal/internal/ort"
	"github.com/terastal/terastal/internal/ort/orttest"
	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/internal/testkit/rig"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched/traffic"
)

// While a layer runs on WebGPU, the CPU is given others, and the outputs of all are right.
func TestMixedScheduleOnWebGPU(t *testing.T) {
	d := webGPU(t, "gpu")
	b := together(t, d, nil, "block")
	n := network(t, "block")
	n.Name = "other"
	b.add(t, n)
	// The device seems fast enough to be given work.
	latency := func(_, _, _, k int) time.Duration { return time.Duration(1+min(k, 1)) * 100 * time.Microsecond }
	e := b.executor(t, b.system(latency))
	for _, policy := range []string{"fcfs", "edf", "terastal"} {
		r := testkit.Must(e.Run(context.Background(), runtime.Options{Policy: policy, Samples: 10, Hang: patient,
			Traffic: traffic.Config{Rates: []float64{1, 1}, Process: traffic.ClosedLoop, Duration: time.Second}}))(t)
		m := check(t, r)
		if during := dispatchedDuring(r, 0); during == 0 || m.Failed > 0 || m.Utilization["gpu"] == 0 {
			t.Errorf("%s: %d layers were dispatched to the CPU while one ran on the device: %+v", policy, during, m)
		}
		if v, err := e.Verify(r.Samples); err != nil || v.Wrong != 0 || v.Verified == 0 {
			t.Errorf("%s: %+v %v", policy, v, err)
		}
	}
}

// A layer with a node that WebGPU does not take is not offered there, for a
// reason that names the node; the layers around it are.
func TestRefusedLayerOnWebGPU(t *testing.T) {
	orttest.WebGPU(t)
	node := func(op, in, out string) *pb.NodeProto {
		return pb.NewNode(op, []string{in}, []string{out}).Named(out)
	}
	n := rig.Graph(t, "det", &pb.GraphProto{
		Input:  []*pb.ValueInfoProto{pb.NewValue("x", pb.TensorProto_FLOAT, 2, 3, 3)},
		Output: []*pb.ValueInfoProto{pb.NewValue("y", pb.TensorProto_FLOAT, 2)},
		Node:   []*pb.NodeProto{node("Sigmoid", "x", "a"), node("Det", "a", "b"), node("Tanh", "b", "y")},
	}, 17, "cuts:a,b")
	b := together(t, webGPU(t, "gpu"), nil)
	b.add(t, n)
	p := b.programs[0]
	var refused *ort.RefusedError
	if !p.Runs(0, 0, 0) || p.Runs(1, 0, 0) || !p.Runs(2, 0, 0) || !p.Runs(1, 0, 1) ||
		!errors.As(p.Refused(1, 0, 0), &refused) || len(refused.Nodes) != 1 || refused.Nodes[0] != "b (Det)" {
		t.Errorf("%v", p.Refused(1, 0, 0))
	}
	e := b.executor(t, b.system(func(_, _, _, k int) time.Duration { return time.Duration(1+k) * 100 * time.Microsecond }))
	r, err := e.Run(context.Background(), runtime.Options{Policy: "fcfs", Traffic: released(1), Samples: 3, Queue: 1000})
	testkit.OK(t, err)
	if m := check(t, r); m.Met != m.Released || m.Utilization["gpu"] == 0 {
		t.Errorf("%+v", m)
	}
	if v, err := e.Verify(r.Samples); err != nil || v.Verified != 3 {
		t.Errorf("%+v %v", v, err)
	}
}
