package models

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	pb "github.com/terastal/terastal/internal/onnxpb"
	"github.com/terastal/terastal/internal/ort"
	"github.com/terastal/terastal/internal/ort/orttest"
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
	files, err := WriteLayers(folder, layers)
	if err != nil {
		t.Fatal(err)
	}
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
		session, err := ort.NewSessionFromFile(files[i], nil, nil, ort.Config{Optimization: "none"})
		if err != nil {
			t.Fatal(err)
		}
		out, err := runOnce(session, l.Inputs, [][]byte{values[l.Inputs[0].Name]}, 1)
		if err != nil {
			t.Fatal(err)
		}
		data, _ := ort.Bytes(out[0])
		values[l.Outputs[0].Name] = bytes.Clone(data)
		destroy(out)
		session.Close()

		raw, _ := os.ReadFile(files[i])
		var written pb.ModelProto
		if err := proto.Unmarshal(raw, &written); err != nil {
			t.Fatal(err)
		}
		for _, w := range written.GetGraph().GetInitializer() {
			for _, e := range w.GetExternalData() {
				if e.GetKey() == "offset" && e.GetValue() != "0" && e.GetValue() != fmt.Sprint(17*page) {
					t.Errorf("%s starts at %s", w.GetName(), e.GetValue())
				}
			}
		}
	}
	whole, err := m.whole.session(inMemory, nil, nil, ort.Config{Optimization: basic})
	if err != nil {
		t.Fatal(err)
	}
	defer whole.Close()
	out, err := runOnce(whole, m.inputs, [][]byte{values["x"]}, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer destroy(out)
	if want, _ := ort.Bytes(out[0]); !bytes.Equal(values[m.outputs[0].Name], want) {
		t.Error("the chain of the files is not the whole model")
	}

	if again, err := WriteLayers(folder, layers); err != nil || !slices.Equal(again, files) {
		t.Errorf("writing again: %v", err)
	}
	_, err = WriteLayers(folder, layers[:2])
	if err == nil || !strings.Contains(err.Error(), "002.onnx is a layer of another split") {
		t.Errorf("fewer layers over more: got %v", err)
	}
}
