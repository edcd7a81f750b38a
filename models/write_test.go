package models

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	pb "github.com/terastal/terastal/internal/onnxpb"
	"github.com/terastal/terastal/internal/ort"
	"github.com/terastal/terastal/internal/ort/orttest"
	"github.com/terastal/terastal/internal/testkit"
)

// TestWrittenLayersShareWeights: the files run in ONNX Runtime as they are,
// their chain is the whole model, and each weight is stored once.
func TestWrittenLayersShareWeights(t *testing.T) {
	orttest.Start(t)
	s := heavy(130)
	s.g.Initializer[2].RawData = bytes.Clone(s.g.Initializer[1].RawData) // equal, under another name
	m := s.parse(t)
	layers := exact(t, m, "op")
	folder := filepath.Join(t.TempDir(), "new")
	files := testkit.Must(WriteLayers(folder, layers))(t)
	entries, _ := os.ReadDir(folder)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if want := []string{"000.onnx", "001.onnx", "002.onnx", "003.onnx", layerWeights}; !slices.Equal(names, want) {
		t.Fatalf("the folder holds %q, want %q", names, want)
	}
	if info, _ := os.Stat(filepath.Join(folder, layerWeights)); info.Size() != 17*page+130*130*4 {
		t.Errorf("%s has %d bytes, want two different tensors, the second from page 17 on", layerWeights, info.Size())
	}
	values := map[string][]byte{"x": RandomInputs(m, 3)[0]}
	for i, l := range layers {
		session := testkit.Must(ort.NewSessionFromFile(files[i], nil, nil, ort.Config{Optimization: "none"}))(t)
		out := testkit.Must(runOnce(session, l.Inputs, [][]byte{values[l.Inputs[0].Name]}, 1))(t)
		data, _ := ort.Bytes(out[0])
		values[l.Outputs[0].Name] = bytes.Clone(data)
		destroy(out)
		session.Close()

		raw, _ := os.ReadFile(files[i])
		var written pb.ModelProto
		testkit.OK(t, proto.Unmarshal(raw, &written))
		for _, w := range written.GetGraph().GetInitializer() {
			for _, e := range w.GetExternalData() {
				if e.GetKey() == "offset" && e.GetValue() != "0" && e.GetValue() != fmt.Sprint(17*page) {
					t.Errorf("%s starts at %s", w.GetName(), e.GetValue())
				}
			}
		}
	}
	whole := testkit.Must(m.whole.session(inMemory, nil, nil, ort.Config{Optimization: basic}))(t)
	defer whole.Close()
	out := testkit.Must(runOnce(whole, m.inputs, [][]byte{values["x"]}, 1))(t)
	defer destroy(out)
	if want, _ := ort.Bytes(out[0]); !bytes.Equal(values[m.outputs[0].Name], want) {
		t.Error("the chain of the files is not the whole model")
	}

	if again, err := WriteLayers(folder, layers); err != nil || !slices.Equal(again, files) {
		t.Errorf("writing again: %v", err)
	}
	testkit.Refused(WriteLayers(folder, layers[:2]))(t, "002.onnx is a layer of another split")
}
