package models_test

import (
	"testing"

	"github.com/terastal/terastal/internal/ort/orttest"
	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/models"
	"github.com/terastal/terastal/models/zoo"
)

// Cut makes the same layers again, whatever made them first.
func TestCut(t *testing.T) {
	orttest.Start(t)
	data := testkit.Must(zoo.Build("glyph_vit", 1))(t)
	m := testkit.Must(models.Parse("vit", data, models.Options{}))(t)
	for _, how := range []string{"op", "block", "model", "auto:100us"} {
		g := testkit.Must(models.ParseGranularity(how))(t)
		layers := testkit.Must(m.Split(g))(t)
		text := models.Cut(layers).String()
		again, err := models.ParseGranularity(text)
		if err != nil || again.Measures() || again.String() != text {
			t.Fatalf("%s: the cut %q reads as %v, %v", how, text, again, err)
		}
		same, err := m.Split(again)
		if err != nil || len(same) != len(layers) {
			t.Fatalf("%s: %d layers, %d again, %v", how, len(layers), len(same), err)
		}
		for i := range layers {
			if layers[i].SHA256 != same[i].SHA256 {
				t.Errorf("%s: layer %d differs", how, i)
			}
		}
	}
	for _, bad := range []string{"nodes:", "nodes:0", "nodes:3,3", "nodes:5,2", "nodes:x", "nodes:-1"} {
		if _, err := models.ParseGranularity(bad); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
	g := testkit.Must(models.ParseGranularity("nodes:100000"))(t)
	if _, err := m.Split(g); err == nil {
		t.Error("cut before a node that does not exist")
	}
}
