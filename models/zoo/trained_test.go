package zoo_test

import (
	"bytes"
	"flag"
	"math"
	"slices"
	"testing"

	"github.com/terastal/terastal/internal/glyphs"
	"github.com/terastal/terastal/internal/ort"
	"github.com/terastal/terastal/internal/ort/orttest"
	"github.com/terastal/terastal/internal/sequential"
	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/models"
	"github.com/terastal/terastal/models/zoo"
)

var images = flag.Int("images", 1500, "test images to measure accuracy on; 10000 repeats the published measurement")

func TestTrainedNetworksNameGlyphs(t *testing.T) {
	sequential.Skip(t)
	orttest.Start(t)
	inputs, labels := make([][]float32, *images), make([]int, *images)
	for i := range inputs {
		var pixels []byte
		pixels, labels[i] = glyphs.Image(glyphs.Test, uint32(i))
		inputs[i] = glyphs.Tensor(pixels)
	}
	count := 0
	for _, a := range trainedNetworks(t) {
		count++
		t.Run(a.Name, func(t *testing.T) {
			got := accuracyOf(t, load(t, a.Name), inputs, labels)
			t.Logf("accuracy %.4f on %d images, published %.4f on %d", got, len(labels), a.Accuracy, zoo.AccuracyImages)
			if got < 0.97 {
				t.Errorf("accuracy %.4f, want 0.97 or more", got)
			}
			// Three standard deviations of a sample. Another processor may round a near tie the other way.
			slack := 0.0003
			if len(labels) != zoo.AccuracyImages {
				slack += 3 * math.Sqrt(a.Accuracy*(1-a.Accuracy)/float64(len(labels)))
			}
			if math.Abs(got-a.Accuracy) > slack {
				t.Errorf("accuracy %.4f, published is %.4f", got, a.Accuracy)
			}
		})
	}
	if count < 3 {
		t.Errorf("%d trained networks, want 3 or more", count)
	}
}

// accuracy is the share of inputs whose largest score is their label's.
func accuracyOf(t *testing.T, m *models.Model, inputs [][]float32, labels []int) float64 {
	t.Helper()
	data := testkit.Must(m.ONNX())(t)
	session := testkit.Must(ort.NewSession(data, nil, nil, ort.Config{Threads: 1}))(t)
	defer session.Close()
	if out := m.Outputs(); len(out) != 1 || out[0].Bytes() != int64(4*len(glyphs.Classes)) {
		t.Fatalf("outputs %v, want the scores of %d classes", out, len(glyphs.Classes))
	}
	right := 0
	for i, input := range inputs {
		if largest(run(t, m, session, input)) == labels[i] {
			right++
		}
	}
	return float64(right) / float64(len(inputs))
}

func run(t *testing.T, m *models.Model, session *ort.Session, input []float32) []float32 {
	t.Helper()
	in := testkit.Must(ort.NewTensor(m.Inputs()[0].Type, m.Inputs()[0].Shape, ort.Data(input)))(t)
	defer in.Destroy()
	out := make([]ort.Value, 1)
	testkit.OK(t, session.Run([]ort.Value{in}, out))
	defer out[0].Destroy()
	data := testkit.Must(ort.Bytes(out[0]))(t)
	return slices.Clone(ort.Numbers[float32](data))
}

func largest(scores []float32) int {
	best := 0
	for i, s := range scores {
		if s > scores[best] {
			best = i
		}
	}
	return best
}

func trainedNetworks(t *testing.T) []zoo.Architecture {
	t.Helper()
	var list []zoo.Architecture
	for _, name := range zoo.Names() {
		a := testkit.Must(zoo.Info(name))(t)
		if a.Trained {
			list = append(list, a)
		}
	}
	return list
}

// The files are part of the program and of every checkout.
func TestTrainedNetworksAreSmallAndIgnoreTheSeed(t *testing.T) {
	total := 0
	for _, a := range trainedNetworks(t) {
		data := testkit.Must(zoo.Build(a.Name, 1))(t)
		total += len(data)
		t.Logf("%s: %d bytes", a.Name, len(data))
		other, _ := zoo.Build(a.Name, 2)
		if !bytes.Equal(data, other) {
			t.Errorf("%s depends on the seed", a.Name)
		}
		if data[len(data)/2]++; bytes.Equal(data, other) {
			t.Errorf("%s: callers share its bytes", a.Name)
		}
	}
	if total > 8e6 {
		t.Errorf("%d bytes of trained networks, want 8 MB at most", total)
	}
}

// Counts are ours, so they are exact.
func TestTrainedCountsAreExact(t *testing.T) {
	orttest.Start(t)
	for _, a := range trainedNetworks(t) {
		if m := load(t, a.Name); m.Parameters() != a.Parameters || m.MACs() != a.MACs {
			t.Errorf("%s: %d parameters and %d MACs, listed with %d and %d",
				a.Name, m.Parameters(), m.MACs(), a.Parameters, a.MACs)
		}
	}
}
