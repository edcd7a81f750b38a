package zoo_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"testing"

	"github.com/terastal/terastal/internal/ort"
	"github.com/terastal/terastal/internal/ort/orttest"
	"github.com/terastal/terastal/models"
	"github.com/terastal/terastal/models/zoo"
)

func TestCountsArePublishedOnes(t *testing.T) {
	orttest.Start(t)
	for _, name := range zoo.Names() {
		t.Run(name, func(t *testing.T) {
			a, err := zoo.Info(name)
			if err != nil {
				t.Fatal(err)
			}
			if testing.Short() && a.Parameters > 30e6 {
				t.Skip("large network; run without -short")
			}
			m := load(t, name)
			t.Logf("%d parameters (published %d), %d MACs (%d)", m.Parameters(), a.Parameters, m.MACs(), a.MACs)
			if off := math.Abs(float64(m.Parameters())/float64(a.Parameters) - 1); off > 0.005 {
				t.Errorf("%d parameters, %.2f %% off the published %d", m.Parameters(), off*100, a.Parameters)
			}
			if off := math.Abs(float64(m.MACs())/float64(a.MACs) - 1); off > 0.02 {
				t.Errorf("%d MACs, %.2f %% off the published %d", m.MACs(), off*100, a.MACs)
			}
			if in := m.Inputs(); len(in) != 1 || !slices.Equal(in[0].Shape, a.Input) {
				t.Errorf("inputs %v, want one of shape %v", in, a.Input)
			}
			spread(t, m)
		})
	}
}

// spread runs the network and requires finite outputs that depend on the class.
func spread(t *testing.T, m *models.Model) {
	data, err := m.ONNX()
	if err != nil {
		t.Fatal(err)
	}
	session, err := ort.NewSession(data, nil, nil, ort.Config{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	in, err := ort.NewTensor(m.Inputs()[0].Type, m.Inputs()[0].Shape, models.RandomInputs(m, 3)[0])
	if err != nil {
		t.Fatal(err)
	}
	defer in.Destroy()
	out := make([]ort.Value, 1)
	if err := session.Run([]ort.Value{in}, out); err != nil {
		t.Fatal(err)
	}
	defer out[0].Destroy()
	logits, err := ort.Bytes(out[0])
	if err != nil {
		t.Fatal(err)
	}
	sum, square, n := 0.0, 0.0, float64(len(logits)/4)
	for at := 0; at < len(logits); at += 4 {
		v := float64(math.Float32frombits(binary.NativeEndian.Uint32(logits[at:])))
		sum, square = sum+v, square+v*v
	}
	deviation := math.Sqrt(square/n - sum/n*sum/n)
	t.Logf("standard deviation of the outputs %g", deviation)
	if !(deviation > 1e-2 && deviation < 1e3) {
		t.Errorf("outputs have standard deviation %g, want a spread of order one", deviation)
	}
}

func load(t *testing.T, name string) *models.Model {
	t.Helper()
	data, err := zoo.Build(name, 1)
	if err != nil {
		t.Fatal(err)
	}
	m, err := models.Parse(name, data, models.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestBuildIsDeterministic(t *testing.T) {
	for _, name := range []string{"ds_cnn_kws", "mobilenetv2"} {
		a, _ := zoo.Build(name, 1)
		b, _ := zoo.Build(name, 1)
		c, _ := zoo.Build(name, 2)
		if !bytes.Equal(a, b) {
			t.Errorf("%s: the same seed gave different bytes", name)
		}
		if bytes.Equal(a, c) {
			t.Errorf("%s: different seeds gave the same bytes", name)
		}
	}
}

func TestUnknownNameListsNames(t *testing.T) {
	_, err := zoo.Build("resnet49", 1)
	if !errors.Is(err, zoo.ErrUnknown) {
		t.Fatalf("got %v, want ErrUnknown", err)
	}
}

func TestSmallOnesSplitExactly(t *testing.T) {
	orttest.Start(t)
	for _, name := range []string{"ds_cnn_kws", "mobilenetv2", "resnet18"} {
		m := load(t, name)
		for _, form := range []string{"op", "block", "model"} {
			g, err := models.ParseGranularity(form)
			if err != nil {
				t.Fatal(err)
			}
			layers, err := m.Split(g)
			if err != nil {
				t.Fatal(err)
			}
			v, err := models.Verify(m, layers, models.RandomInputs(m, 5), "none")
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%s %s: %d layers, %+v", name, form, len(layers), v)
			if !v.Identical {
				t.Errorf("%s at %s: outputs differ by %g", name, form, v.MaxAbsDiff)
			}
		}
	}
}
