package variants

import (
	"context"
	"encoding/binary"
	"math"
	"os"
	"testing"
	"time"

	"github.com/terastal/terastal/internal/glyphs"
	"github.com/terastal/terastal/internal/ort"
	"github.com/terastal/terastal/models"
	"github.com/terastal/terastal/models/zoo"
	"github.com/terastal/terastal/runtime"
)

type glyphData struct {
	split glyphs.Split
	n     int
}

func (d glyphData) Len() int { return d.n }
func (d glyphData) Inputs(i int) ([][]byte, error) {
	px, _ := glyphs.Image(d.split, uint32(i))
	t := glyphs.Tensor(px)
	raw := make([]byte, 4*len(t))
	for i, x := range t {
		binary.LittleEndian.PutUint32(raw[4*i:], math.Float32bits(x))
	}
	return [][]byte{raw}, nil
}
func (d glyphData) Label(i int) int { return glyphs.Label(uint32(i)) }

func TestExplore(t *testing.T) {
	name := os.Getenv("NET")
	if name == "" {
		t.Skip()
	}
	if _, err := ort.Start(""); err != nil {
		t.Fatal(err)
	}
	data, _ := zoo.Build(name, 1)
	m, err := models.Parse(name, data, models.Options{})
	if err != nil {
		t.Fatal(err)
	}
	g, _ := models.ParseGranularity("op")
	layers, err := m.Split(g)
	if err != nil {
		t.Fatal(err)
	}
	n := &runtime.Network{Name: name, Model: m, Layers: layers}
	begin := time.Now()
	f, err := NewFitter(n, glyphData{glyphs.Calibration, 300})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for l := range layers {
		if o := os.Getenv("ONLY"); o != "" && o != layers[l].Name {
			continue
		}
		list, notes := Candidates(&layers[l], true)
		_ = notes
		at := time.Now()
		if err := f.Fit(context.Background(), l, list, nil); err != nil {
			t.Error(err)
		}
		t.Logf("layer %d %s: %d candidates, %v", l, layers[l].Name, len(list), time.Since(at))
		orig, _ := layers[l].ONNX()
		lat := func(onnx []byte, opt string) time.Duration {
			r, err := openRunner(onnx, layers[l].Inputs, tensorNames(layers[l].Outputs), opt)
			if err != nil {
				t.Log(err)
				return 0
			}
			defer r.close()
			env, _ := f.clean.before(l, 0)
			best := time.Hour
			for range 30 {
				b := time.Now()
				if err := r.run(env); err != nil {
					t.Log(err)
				}
				best = min(best, time.Since(b))
			}
			return best
		}
		oa, ob := lat(orig, "all"), lat(orig, "basic")
		t.Logf("   original all %v basic %v", oa, ob)
		for _, c := range list {
			x, err := c.ONNX()
			if err != nil {
				t.Fatal(err)
			}
			a, b := lat(x, "all"), lat(x, "basic")
			t.Logf("   %-28s macs %.2f promise %.2e error %.2e  all %.2fx basic %.2fx %v", c.Name(), float64(c.MACs)/float64(c.OriginalMACs), c.Promise, c.Error, float64(oa)/float64(a), float64(ob)/float64(b), c.Refused)
		}
	}
	t.Log(time.Since(begin))
}
