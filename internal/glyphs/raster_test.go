package glyphs

import (
	"math/rand/v2"
	"testing"
)

// pixelSpace leaves points, in 1/256 pixels, where they are.
var pixelSpace = transform{xx: unit, yy: unit}

func total(m *mask) int {
	sum := 0
	for _, v := range m {
		sum += v
	}
	return sum
}

func square(left, top, side int) outline {
	return polygon(point{left, top}, point{left + side, top}, point{left + side, top + side}, point{left, top + side})
}

func TestFillCoversWhatItShould(t *testing.T) {
	const px = subpixels
	hole := func(o outline) outline { // the other way round
		var back outline
		for i := len(o) - 1; i >= 0; i-- {
			back = append(back, curve{o[i][2], o[i][1], o[i][0]})
		}
		return back
	}
	for _, c := range []struct {
		name  string
		shape outline
		want  int // pixels
		at    map[int]int
	}{
		{"square", square(2*px, 3*px, 4*px), 16,
			map[int]int{3*Size + 2: opaque, 6*Size + 5: opaque, 2*Size + 2: 0, 3*Size + 6: 0}},
		{"half pixels", square(px/2, px/2, px), 1,
			map[int]int{0: opaque / 4, 1: opaque / 4, Size: opaque / 4, Size + 1: opaque / 4}},
		{"hole", append(square(0, 0, 4*px), hole(square(px, px, 2*px))...), 12, map[int]int{Size + 1: 0, 0: opaque}},
		{"overlap", append(square(0, 0, 4*px), square(px, px, 4*px)...), 23, map[int]int{Size + 1: opaque}},
		{"cut off", square(-2*px, (Size-1)*px, 4*px), 2, map[int]int{(Size - 1) * Size: opaque}},
		{"outside", square(-9*px, 0, 4*px), 0, nil},
	} {
		var m mask
		m.fill(c.shape, pixelSpace)
		if got := total(&m); got != c.want*opaque {
			t.Errorf("%s: covers %d/%d pixels, want %d", c.name, got, opaque, c.want)
		}
		for at, want := range c.at {
			if m[at] != want {
				t.Errorf("%s: pixel %d covered by %d, want %d", c.name, at, m[at], want)
			}
		}
	}
}

// The area of a shape is half the sum of the cross products along it, however
// it is turned; where contours overlap it is less.
func TestGlyphsHaveTheirArea(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for f, font := range outlines() {
		for label, glyph := range font {
			place := scaled(36, 36).then(rotation(between(r, -unit/5, unit/5)))
			place.shift = point{middle, middle}
			var m mask
			m.fill(glyph, place)
			area := 0
			for _, c := range glyph {
				a, b, d := place.apply(c[0]), place.apply(c[1]), place.apply(c[2])
				// The curve adds two thirds of the triangle of its points to its chord.
				area += 3*(a.x*d.y-d.x*a.y) + 2*((a.x*b.y-b.x*a.y)+(b.x*d.y-d.x*b.y)+(d.x*a.y-a.x*d.y))
			}
			want := max(area, -area) / 6 * opaque / (subpixels * subpixels)
			got := total(&m)
			if got < 40*opaque || got < want*97/100 || got > want*103/100 {
				t.Errorf("font %d, %q: covers %d pixels, its area is %d", f, Classes[label], got/opaque, want/opaque)
			}
		}
	}
}

func TestRotationKeepsLengths(t *testing.T) {
	for tangent := -unit; tangent <= unit; tangent += unit / 7 {
		p := rotation(tangent).apply(point{3000, 4000})
		if d := p.x*p.x + p.y*p.y - 5000*5000; d > 50_000 || d < -50_000 {
			t.Errorf("tangent %d: (3000, 4000) becomes %v", tangent, p)
		}
	}
}
