package zoo_test

import (
	"bytes"
	"math"
	"slices"
	"testing"

	"github.com/terastal/terastal/internal/ort"
	"github.com/terastal/terastal/internal/ort/orttest"
	"github.com/terastal/terastal/internal/sequential"
	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/models"
	"github.com/terastal/terastal/models/zoo"
)

func TestCounts(t *testing.T) {
	orttest.Start(t)
	for _, name := range zoo.Names() {
		t.Run(name, func(t *testing.T) {
			a := testkit.Must(zoo.Info(name))(t)
			if testing.Short() && a.Parameters > 30e6 {
				t.Skip("large network; run without -short")
			}
			if a.Parameters > 1e6 {
				sequential.Skip(t)
			}
			m := load(t, name)
			t.Logf("%d parameters (expected %d), %d MACs (%d)", m.Parameters(), a.Parameters, m.MACs(), a.MACs)
			if off := math.Abs(float64(m.Parameters())/float64(a.Parameters) - 1); off > 0.005 {
				t.Errorf("%d parameters, %.2f %% off the expected %d", m.Parameters(), off*100, a.Parameters)
			}
			if off := math.Abs(float64(m.MACs())/float64(a.MACs) - 1); off > 0.02 {
				t.Errorf("%d MACs, %.2f %% off the expected %d", m.MACs(), off*100, a.MACs)
			}
			if in := m.Inputs(); len(in) != 1 || !slices.Equal(in[0].Shape, a.Input) {
				t.Errorf("inputs %v, want one of shape %v", in, a.Input)
			}
			spread(t, m)
		})
	}
}

// spread runs the network twice and requires finite outputs whose elements differ, and that depend on the input.
func spread(t *testing.T, m *models.Model) {
	t.Helper()
	data := testkit.Must(m.ONNX())(t)
	session := testkit.Must(ort.NewSession(data, nil, nil, ort.Config{Threads: 1}))(t)
	defer session.Close()
	first, second := results(t, m, session, 3), results(t, m, session, 4)
	for i, out := range m.Outputs() {
		sum, square, moved, n := 0.0, 0.0, 0.0, float64(len(first[i]))
		for j, v := range first[i] {
			sum, square, moved = sum+v, square+v*v, math.Max(moved, math.Abs(v-second[i][j]))
		}
		deviation := math.Sqrt(square/n - sum/n*sum/n)
		t.Logf("%s: standard deviation %g, another input moves it by up to %g", out, deviation, moved)
		if !(deviation > 1e-2 && deviation < 1e3) {
			t.Errorf("%s has standard deviation %g, want a spread of order one", out, deviation)
		}
		if !(moved > deviation/100) {
			t.Errorf("%s has standard deviation %g but moves by no more than %g with the input", out, deviation, moved)
		}
	}
}

// results runs a session on random inputs and returns the elements of each output.
func results(t *testing.T, m *models.Model, session *ort.Session, seed uint64) [][]float64 {
	t.Helper()
	in := testkit.Must(ort.NewTensor(m.Inputs()[0].Type, m.Inputs()[0].Shape, models.RandomInputs(m, seed)[0]))(t)
	defer in.Destroy()
	out := make([]ort.Value, len(m.Outputs()))
	testkit.OK(t, session.Run([]ort.Value{in}, out))
	list := make([][]float64, len(out))
	for i, v := range out {
		defer v.Destroy()
		data := testkit.Must(ort.Bytes(v))(t)
		for _, x := range ort.Numbers[float32](data) {
			list[i] = append(list[i], float64(x))
		}
	}
	return list
}

func load(t *testing.T, name string) *models.Model {
	t.Helper()
	data := testkit.Must(zoo.Build(name, 1))(t)
	return testkit.Must(models.Parse(name, data, models.Options{}))(t)
}

func TestBuildIsDeterministic(t *testing.T) {
	sequential.Skip(t)
	for _, name := range []string{
		"ds_cnn_kws", "hand_pose", "mobilenetv2", "mobilenetv2_ssdlite", "sp2dense", "swin_tiny",
	} {
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
	testkit.Refused(zoo.Build("resnet49", 1))(t, zoo.ErrUnknown)
}

func TestSplitsAreExact(t *testing.T) {
	orttest.Start(t)
	for _, c := range []struct {
		name  string
		short []string // granularities that also run with -short
	}{
		{"ds_cnn_kws", []string{"op", "block", "model"}},
		{"mobilenetv2", []string{"op", "block"}},
		{"resnet18", []string{"op", "block"}},
		{"hand_pose", []string{"op"}},
		{"mobilenetv2_ssdlite", []string{"op"}},
		{"sp2dense", nil},
		{"swin_tiny", []string{"op"}},
		{"glyph_mobile", []string{"op", "block"}},
		{"glyph_resnet", []string{"op", "block"}},
		{"glyph_vgg", []string{"op", "block"}},
		{"glyph_vit", []string{"op", "block"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if testing.Short() && c.short == nil {
				t.Skip("slow; run without -short")
			}
			if a, err := zoo.Info(c.name); err != nil || a.Parameters > 1e6 {
				sequential.Skip(t)
			}
			m := load(t, c.name)
			for _, form := range []string{"op", "block", "model"} {
				if testing.Short() && !slices.Contains(c.short, form) {
					continue
				}
				g := testkit.Must(models.ParseGranularity(form))(t)
				layers := testkit.Must(m.Split(g))(t)
				v := testkit.Must(models.Verify(m, layers, models.RandomInputs(m, 5), "none", false))(t)
				t.Logf("%s: %d layers, %+v", form, len(layers), v)
				if !v.Identical {
					t.Errorf("%s: outputs differ by %g", form, v.MaxAbsDiff)
				}
			}
		})
	}
}
