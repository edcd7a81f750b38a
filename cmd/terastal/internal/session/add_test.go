package session

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/terastal/terastal/models"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched/plan"
	"github.com/terastal/terastal/variants"
)

// says tells whether an error has this text; "" stands for no error.
func says(err error, text string) bool {
	if text == "" || err == nil {
		return text == "" && err == nil
	}
	return strings.Contains(err.Error(), text)
}

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
		if !says(err, c.says) || got != c.want {
			t.Errorf("%q: %d, %v, want %d, %q", c.name, got, err, c.want, c.says)
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

// What is added comes behind the variants of its layer, so that variants stay in
// the order in which the scheduler numbers them.
func TestInsert(t *testing.T) {
	of := func(layers ...int) (list []implementation) {
		for i, l := range layers {
			list = append(list, implementation{Variant: plan.Variant{Layer: l, Parameters: string(rune('a' + i))}})
		}
		return list
	}
	for _, c := range []struct {
		list        []implementation
		layer, want int
	}{{nil, 3, 0}, {of(1, 3, 3, 5), 3, 3}, {of(1, 3, 3, 5), 0, 0}, {of(1, 3, 3, 5), 9, 4}, {of(1, 3, 3, 5), 2, 1}} {
		list, at := insert(c.list, implementation{Variant: plan.Variant{Layer: c.layer, Family: variants.Added}})
		if at != c.want || list[at].Family != variants.Added || len(list) != len(c.list)+1 ||
			!slices.IsSortedFunc(list, func(a, b implementation) int { return a.Layer - b.Layer }) {
			t.Errorf("layer %d: at %d, want %d: %v", c.layer, at, c.want, list)
		}
	}
}

// A plan's columns follow the accelerators' names.
func TestRealign(t *testing.T) {
	const us = time.Microsecond
	f := &Flow{Specs: []runtime.Spec{{Name: "new"}, {Name: "b"}, {Name: "a"}}, known: map[int]plan.Variants{0: {
		Accelerators: []string{"a", "b"},
		Chosen:       []plan.Variant{{Latency: []time.Duration{1 * us, 2 * us}, Original: []time.Duration{3 * us, 4 * us}}},
		Candidates:   []plan.Variant{{Latency: []time.Duration{5 * us}}},
	}}}
	before := f.known[0].Chosen
	f.realign(0)
	want := plan.Variants{
		Accelerators: []string{"new", "b", "a"},
		Chosen: []plan.Variant{
			{Latency: []time.Duration{0, 2 * us, 1 * us}, Original: []time.Duration{0, 4 * us, 3 * us}}},
		Candidates: []plan.Variant{{Latency: []time.Duration{0, 0, 5 * us}, Original: []time.Duration{0, 0, 0}}},
	}
	if diff := cmp.Diff(want, f.known[0]); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if before[0].Latency[0] != us {
		t.Error("it changed the plan that was read")
	}
	f.realign(1) // has none
}

// One that ties with the original is not faster; one that runs where the
// original cannot is.
func TestFaster(t *testing.T) {
	d := &designer{Flow: &Flow{Specs: []runtime.Spec{{Name: "a"}, {Name: "b"}}}}
	const us = time.Microsecond
	for _, c := range []struct {
		latency, original []time.Duration
		refused           map[int]string
		wanted            []string
		says              string
	}{
		{[]time.Duration{9 * us, 5 * us}, []time.Duration{10 * us, 5 * us}, nil, []string{"a"}, ""},
		{[]time.Duration{10 * us, 5 * us}, []time.Duration{10 * us, 0}, nil, []string{"b"}, ""},
		{[]time.Duration{10 * us, 0}, []time.Duration{10 * us, 5 * us}, map[int]string{1: "no such operator"}, nil,
			"on no accelerator: 10.0 us on a, the original 10.0 us; b refuses it (no such operator)"},
		{[]time.Duration{0, 0}, []time.Duration{0, 5 * us}, map[int]string{0: "no", 1: "no"}, nil,
			"a refuses it (no); b refuses it (no)"},
		{[]time.Duration{0, 9 * us}, []time.Duration{0, 5 * us}, nil, nil, "it was not measured on a; 9.0 us on b"},
	} {
		x := &implementation{Variant: plan.Variant{Latency: c.latency, Original: c.original}}
		err := d.faster(x, c.refused)
		if !says(err, c.says) || !slices.Equal(x.Wanted, c.wanted) {
			t.Errorf("%v: for %v, %v, want %v, %q", c, x.Wanted, err, c.wanted, c.says)
		}
	}
}
