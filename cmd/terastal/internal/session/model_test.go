package session

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/models/zoo"
	"github.com/terastal/terastal/sched/plan"
	"github.com/terastal/terastal/variants"
)

// A plan names built-in networks by a file next to it, which is written unless it
// is there and whole; other models by a file relative to the folder of models.
func TestSourcesInPlan(t *testing.T) {
	s := source{Resolved: "/models/vision/net.onnx"}
	if name, err := s.inPlan("/models"); name != "vision/net.onnx" || err != nil {
		t.Errorf("%q, %v", name, err)
	}
	s = source{Resolved: "zoo:glyph_vgg"}
	name, err := s.inPlan("/models")
	if name != "models/zoo/glyph_vgg.onnx" || err != nil {
		t.Fatalf("%q, %v", name, err)
	}
	data := testkit.Must(zoo.Build("glyph_vgg", ZooSeed))(t)
	out := t.TempDir()
	m := plan.Model{Source: name, SHA256: variants.SHA256(data)}
	path := filepath.Join(out, name)
	write := func(want bool) {
		t.Helper()
		before, _ := os.Stat(path)
		testkit.OK(t, writeBuiltIn(out, &m))
		after, err := os.Stat(path)
		if err != nil || os.SameFile(before, after) == want {
			t.Errorf("written is %t, want %t, %v", !want, want, err)
		}
		if got, err := os.ReadFile(path); err != nil || variants.SHA256(got) != m.SHA256 {
			t.Errorf("it is another network, %v", err)
		}
	}
	write(true)
	write(false)
	testkit.Write(t, path, data[1:])
	write(true)
	if err := writeBuiltIn(out, &plan.Model{Source: "vision/net.onnx"}); err != nil {
		t.Errorf("a file of the user's: %v", err)
	}
}
