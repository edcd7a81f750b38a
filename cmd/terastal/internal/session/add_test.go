package session

import (
	"slices"
	"testing"

	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/models"
)

func TestFindLayer(t *testing.T) {
	layers := []models.Layer{{Name: "conv1"}, {Name: "0"}, {Name: "twice"}, {Name: "twice"}}
	for _, c := range []struct {
		name string
		want int
		says string
	}{
		{"conv1", 0, ""},
		{"0", 1, ""}, // a name before a number
		{"3", 3, ""},
		{"4", 0, "there is no layer 4: they are 0 to 3"},
		{"-1", 0, "there is no layer -1"},
		{"twice", 0, `layers 2 and 3 are called "twice": give the number`},
		{"conv", 0, `there is no layer "conv": the nearest names are "conv1", `},
	} {
		got, err := findLayer(layers, c.name)
		testkit.Says(t, err, c.says)
		if got != c.want {
			t.Errorf("%q: %d, want %d", c.name, got, c.want)
		}
	}
}

func TestEdits(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"", "abc", 3}, {"abc", "", 3}, {"abc", "abc", 0}, {"kitten", "sitting", 3}, {"flaw", "lawn", 2}} {
		if got := edits(c.a, c.b); got != c.want {
			t.Errorf("%q to %q: %d, want %d", c.a, c.b, got, c.want)
		}
	}
	got := nearest("block1/cov2", []string{"stem", "block1/conv1", "block1/conv2", "block1/conv2"}, 2)
	if !slices.Equal(got, []string{"block1/conv2", "block1/conv1"}) {
		t.Errorf("nearest: %q", got)
	}
}
