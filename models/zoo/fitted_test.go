package zoo_test

import (
	"encoding/json"
	"io/fs"
	"slices"
	"testing"

	"github.com/terastal/terastal/internal/ort/orttest"
	"github.com/terastal/terastal/internal/sequential"
	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/internal/testkit/rig"
	"github.com/terastal/terastal/models/dataset"
	"github.com/terastal/terastal/models/zoo"
	"github.com/terastal/terastal/sched/plan"
	"github.com/terastal/terastal/variants"
	"github.com/terastal/terastal/variants/accuracy"
)

// fittedImages judge combinations: enough that one image less is 1 %.
const fittedImages = 100

// Every trained network has fitted variants, of its layers as they are now, that compute the same on every processor
// and keep what the demo promises: every combination at least 0.98 of the accuracy, give or take one image, and those of
// a variant alone 0.99.
func TestFittedVariantsKeepTheAccuracy(t *testing.T) {
	sequential.Skip(t)
	orttest.Start(t)
	for _, a := range trainedNetworks(t) {
		t.Run(a.Name, func(t *testing.T) {
			folder := zoo.Fitted(a.Name)
			if folder == nil {
				t.Fatal("there are none")
			}
			text := testkit.Must(fs.ReadFile(folder, "variants.json"))(t)
			var v plan.Variants
			testkit.OK(t, json.Unmarshal(text, &v))
			n := rig.Network(t, a.Name, zoo.FittedGranularity)
			if v.SHA256 != n.Model.SHA256() || v.Granularity != zoo.FittedGranularity || len(v.Chosen) == 0 {
				t.Fatalf("%d variants of another model or granularity %s: run `make variants`", len(v.Chosen), v.Granularity)
			}
			files := []string{"variants.json"}
			for _, c := range v.Chosen {
				data := testkit.Must(fs.ReadFile(folder, c.File))(t)
				if n.Layers[c.Layer].Name != c.LayerName {
					t.Errorf("%s is not of layer %q, as variants.json says", c.File, n.Layers[c.Layer].Name)
				}
				if same, err := variants.Same(data, variants.Exact, variants.Saturating); !same || err != nil {
					t.Errorf("%s saturates on some processors: %v", c.File, err)
				}
				files = append(files, c.File)
			}
			there, err := fs.Glob(folder, "*")
			slices.Sort(files)
			if err != nil || !slices.Equal(there, files) { // both sorted
				t.Errorf("the folder has %v, variants.json names %v (%v)", there, files, err)
			}
			testkit.OK(t, n.Attach(v.Chosen, func(file string) ([]byte, error) { return fs.ReadFile(folder, file) }))
			data := testkit.Must(dataset.Open(dataset.Spec{Source: "glyphs:test", Count: fittedImages}, n.Model))(t)
			p := testkit.Must(accuracy.Prove(t.Context(), n, data, accuracy.Top(1), accuracy.Options{Workers: 2}))(t)
			for i, s := range p.Sets {
				least := 0.98
				if s.Len() <= 1 {
					least = 0.99
				}
				if p.Accuracy[i] < least-1.0/fittedImages {
					t.Errorf("combination %b keeps %.4f of the accuracy", s, p.Accuracy[i])
				}
			}
			if p.Baseline < 0.97 || !p.Exhaustive {
				t.Errorf("baseline %v, all combinations: %v", p.Baseline, p.Exhaustive)
			}
		})
	}
	if zoo.Fitted("resnet18") != nil || zoo.Fitted("../trained") != nil {
		t.Error("a network that is not trained has fitted variants")
	}
}
