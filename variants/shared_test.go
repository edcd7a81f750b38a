package variants_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/terastal/terastal/internal/ort/orttest"
	"github.com/terastal/terastal/internal/sequential"
	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/models"
	"github.com/terastal/terastal/models/dataset"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/variants"
	"github.com/terastal/terastal/variants/accuracy"
)

// A real network on real images, where there are any: with every convolution at half its work or less, by the closest
// variant that does, MNIST's digits are still recognised.
func TestSharedMNIST(t *testing.T) {
	sequential.Skip(t)
	folder := os.Getenv("TERASTAL_SHARED")
	if folder == "" {
		folder = filepath.Join("..", "..", "shared")
	}
	m, err := load(t, filepath.Join(folder, "models", "mnist-8.onnx"))
	if err != nil {
		t.Skip("no real models: set TERASTAL_SHARED to a folder with models/mnist-8.onnx and data/mnist: ", err)
	}
	images, labels := filepath.Join(folder, "data", "mnist", "t10k-images-idx3-ubyte.gz"),
		filepath.Join(folder, "data", "mnist", "t10k-labels-idx1-ubyte.gz")
	raw := dataset.Pixels{Range: 255} // as the network was trained
	calibration := testkit.Must(dataset.Open(dataset.Spec{Source: images, Pixels: raw, First: 9000, Count: 100}, m))(t)
	judged := testkit.Must(dataset.Open(dataset.Spec{Source: images, Pixels: raw, Labels: labels, Count: 300}, m))(t)
	n := testkit.Must(runtime.NewNetwork("mnist", m, "op"))(t)
	layers := n.Layers
	f := testkit.Must(variants.NewFitter(n, calibration))(t)
	defer f.Close()
	arithmetic := testkit.Must(variants.ProbeArithmetic())(t)
	n.Variants = map[int][]runtime.Unit{}
	for l := range layers {
		list, _ := variants.Candidates(&layers[l], arithmetic)
		list = slices.DeleteFunc(list, func(c *variants.Candidate) bool {
			return c.Family == "int8" || 2*c.MACs > c.OriginalMACs
		})
		testkit.OK(t, f.Fit(t.Context(), l, list, nil, nil))
		var best *variants.Candidate
		for _, c := range list {
			if c.Refusal == nil && (best == nil || c.Error < best.Error) {
				best = c
			}
		}
		if best == nil {
			continue
		}
		t.Logf("%s: %s, error %.3g", layers[l].Name, best.String(), best.Error)
		testkit.OK(t, f.Adopt(best))
		u := testkit.Must(best.Unit())(t)
		n.Variants[l] = append(n.Variants[l], u)
	}
	p := testkit.Must(accuracy.Prove(t.Context(), n, judged, accuracy.Top(1), accuracy.Options{Workers: 2}))(t)
	t.Logf("top-1 %.3f, normalised: %v of %v", p.Baseline, p.Accuracy, p.Sets)
	if p.Baseline < 0.95 || len(n.Variants) < 2 || slices.Min(p.Accuracy) < 0.95 {
		t.Errorf("%d variants, baseline %v, the worst combination keeps %v", len(n.Variants), p.Baseline,
			slices.Min(p.Accuracy))
	}
}

func load(t *testing.T, path string) (*models.Model, error) {
	if _, err := os.Stat(path); err != nil {
		return nil, err
	}
	orttest.Start(t)
	return models.Load(path, models.Options{})
}
