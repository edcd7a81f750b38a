package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/terastal/terastal/internal/ort/orttest"
	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/models/zoo"
	"github.com/terastal/terastal/sched"
)

// right is how many of the first rightOf test images each combination of a network's trained D2S variants gets right.
// Bit i of the index is variant i of zoo.D2S.
var right = map[string][]int{
	"glyph_resnet": {
		198, 197, 196, 196, 190, 189, 176, 174, 194, 192, 180, 178, 169, 153, 133, 121,
		187, 180, 174, 165, 141, 136, 110, 112, 139, 131, 121, 117, 87, 75, 61, 50,
		196, 196, 194, 191, 183, 177, 160, 146, 183, 179, 159, 155, 148, 124, 111, 107,
		189, 183, 175, 166, 144, 129, 122, 122, 152, 142, 129, 134, 106, 86, 73, 63,
	},
	"glyph_vgg": {
		198, 197, 196, 195, 194, 193, 187, 180, 197, 190, 186, 182, 187, 183, 168, 156,
		197, 195, 193, 180, 188, 184, 172, 156, 180, 167, 160, 144, 155, 143, 122, 116,
	},
	"glyph_vit": {199, 193, 198, 192, 194, 191, 196, 187, 199, 189, 198, 184, 194, 184, 195, 175},
}

const rightOf = 200

// The combinations of the variants that scripts/train_variants.py trained keep
// the accuracy that docs/evaluation/variants.md says they have.
func TestTrainedD2SKeepTheirAccuracy(t *testing.T) {
	orttest.Start(t)
	for _, name := range zoo.Names() {
		n := testkit.Must(openTrained(name))(t)
		if n == nil {
			if right[name] != nil {
				t.Errorf("%s has no variants", name)
			}
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testkit.OK(t, n.prove(t.Context(), rightOf))
			want := right[name]
			if !n.Exhaustive || len(n.Sets) != 1<<len(n.Chosen) || len(want) != len(n.Sets) {
				t.Errorf("%d combinations of %d variants, %d are known", len(n.Sets), len(n.Chosen), len(want))
			}
			// Another processor rounds near ties the other way.
			const slack = 3
			var got []int
			for i, s := range n.Sets {
				got = append(got, int(n.Accuracy[i]*n.Baseline*rightOf+0.5))
				if s != sched.VariantSet(i) || i < len(want) && max(got[i]-want[i], want[i]-got[i]) > slack {
					t.Errorf("combination %s gets %d of %d right", letters(s), got[i], rightOf)
				}
			}
			if t.Failed() {
				t.Errorf("got %v, want within %d of %v", got, slack, want)
			}
		})
	}
}

func TestTrainedTables(t *testing.T) {
	orttest.Start(t)
	n := testkit.Must(openTrained("glyph_vit"))(t)
	testkit.OK(t, n.prove(t.Context(), 20))
	testkit.OK(t, n.measure(t.Context(), time.Millisecond))
	var all sched.VariantSet = 1<<len(n.Chosen) - 1
	if n.runs == 0 || n.with(0, 0) <= 0 || n.with(1, all) <= 0 || n.gain(0, 0) != 1 {
		t.Errorf("%d runs, layers take %v, with all variants %v", n.runs, n.with(0, 0), n.with(1, all))
	}
	var b bytes.Buffer
	nets := []*trained{n}
	trainedSummary(&b, nets, nil)
	trainedLayers(&b, nets, nil)
	n.combinations(&b)
	for _, want := range []string{"| glyph_vit | stem3 | a | 2 |", "| ab |", "top-1 "} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the tables do not hold %q:\n%s", want, b.String())
		}
	}
	// Rows of a table have as many cells as its head.
	for _, table := range strings.Split(b.String(), "\n\n") {
		rows := strings.Split(strings.TrimSpace(table), "\n")
		for _, r := range rows {
			if strings.HasPrefix(r, "|") && strings.Count(r, "|") != strings.Count(rows[0], "|") {
				t.Errorf("cells of %q, the head is %q", r, rows[0])
			}
		}
	}
}
