package variants

import (
	"testing"

	"google.golang.org/protobuf/proto"

	pb "github.com/terastal/terastal/internal/onnxpb"
	"github.com/terastal/terastal/internal/testkit"
)

// FuzzHolds: no file that a plan names brings the check of its weights down, and
// what holds where all sums saturate holds everywhere.
func FuzzHolds(f *testing.F) {
	for _, op := range []string{"DequantizeLinear", "MatMul", "QLinearConv", "MatMulInteger", "QGemm"} {
		for inputs := range 5 {
			n := &pb.NodeProto{OpType: proto.String(op), Input: []string{"a", "b", "c", "d"}[:min(inputs, 4)]}
			data := testkit.Must(proto.Marshal(&pb.ModelProto{Graph: &pb.GraphProto{Node: []*pb.NodeProto{n}}}))(f)
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		all, err := SaturatingThroughout.Holds(data)
		for _, a := range []Arithmetic{Exact, Saturating} {
			if holds, again := a.Holds(data); (again == nil) != (err == nil) || all && !holds {
				t.Errorf("%s: %v, %v; where all sums saturate: %v, %v", a, holds, again, all, err)
			}
		}
	})
}
