package zoo

import (
	"math"
	"slices"
	"testing"

	"github.com/terastal/terastal/internal/ort/orttest"
	"github.com/terastal/terastal/internal/sequential"
	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/models"
)

// Open Model Zoo publishes ssdlite_mobilenet_v2 for the 91 classes of COCO: 4.475 M parameters, BatchNormalization
// folded into the convolutions, and 1.525 GFLOPs, two to a multiply-accumulate and activations counted too.
func TestSSDLiteOf91ClassesMeetsPublishedCounts(t *testing.T) {
	sequential.Skip(t)
	orttest.Start(t)
	n := newNet("ssdlite", 1)
	ssdLite(91)(n, n.input(3, 300, 300))
	data := testkit.Must(n.bytes())(t)
	m := testkit.Must(models.Parse("ssdlite", data, models.Options{}))(t)
	whole := testkit.Must(models.ParseGranularity("model"))(t)
	layers := testkit.Must(m.Split(whole))(t)
	t.Logf("%d parameters after folding, %d MACs", layers[0].Parameters, m.MACs())
	if off := math.Abs(float64(layers[0].Parameters)/4.475e6 - 1); off > 0.0005 {
		t.Errorf("%d parameters, %.3f %% off the published 4.475 M", layers[0].Parameters, off*100)
	}
	if off := math.Abs(2*float64(m.MACs())/1.525e9 - 1); off > 0.02 {
		t.Errorf("%d MACs, %.2f %% off the published 1.525 GFLOPs", m.MACs(), off*100)
	}
	for i, last := range []int64{91, 4} {
		if got := m.Outputs()[i].Shape; !slices.Equal(got, []int64{1, 1917, last}) {
			t.Errorf("output %s, want 1917 anchors of %d", m.Outputs()[i], last)
		}
	}
}

// Two tokens of a shifted window are apart when they lie elsewhere to each other in the image than in the window.
func TestApartMarksTokensThatWrappedAround(t *testing.T) {
	for _, rows := range []int{2, 4, 8} {
		columns := rows + 1
		mask := apart(rows, columns)
		image := func(window, at, windows int) int {
			return (window*swinWindow + at + swinWindow/2) % (windows * swinWindow)
		}
		for k, got := range mask {
			window, i, j := k/(swinTokens*swinTokens), k/swinTokens%swinTokens, k%swinTokens
			down := image(window/columns, i/swinWindow, rows) - image(window/columns, j/swinWindow, rows)
			right := image(window%columns, i%swinWindow, columns) - image(window%columns, j%swinWindow, columns)
			want := down != i/swinWindow-j/swinWindow || right != i%swinWindow-j%swinWindow
			if got != want {
				t.Fatalf("%d x %d windows: window %d, tokens %d and %d: apart %t, want %t", rows, columns, window, i, j, got, want)
			}
		}
	}
}

func TestRelativePositionsAreThoseOfTheOffset(t *testing.T) {
	offset := make(map[int][2]int)
	for k, index := range relativePositions() {
		i, j := k/swinTokens, k%swinTokens
		want := [2]int{i/swinWindow - j/swinWindow, i%swinWindow - j%swinWindow}
		if got, seen := offset[index]; seen && got != want {
			t.Fatalf("index %d stands for offsets %v and %v", index, got, want)
		}
		offset[index] = want
	}
	if len(offset) != 169 {
		t.Errorf("%d offsets, want 13 x 13", len(offset))
	}
}

func TestHandGraphsAreSymmetric(t *testing.T) {
	for name, near := range map[string][][]int{"skeleton": skeleton(), "tubes": tubes()} {
		for i, list := range near {
			if list[0] != i {
				t.Errorf("%s: node %d lists itself at %v", name, i, list)
			}
			for _, j := range list {
				if !slices.Contains(near[j], i) {
					t.Errorf("%s: %d has neighbour %d, but not the other way round", name, i, j)
				}
			}
		}
	}
	if got := len(tubes()); got != 1280 {
		t.Errorf("%d vertices, want 1280", got)
	}
}
