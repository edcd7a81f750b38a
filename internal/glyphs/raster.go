package glyphs

import "slices"

const (
	subpixels = 256               // of a pixel's side, the unit of placed points
	scans     = 8                 // lines of samples through a pixel
	opaque    = scans * subpixels // coverage of a pixel wholly inside
	steps     = 8                 // lines that stand for a curve
	unit      = 1 << 16           // one, in the entries of a transform
)

// transform is a linear map and a shift: entries in 1/unit of (1/256 pixel per font unit), the shift in 1/256 pixels.
type transform struct {
	xx, xy, yx, yy int
	shift          point
}

// rotation turns by twice the angle whose tangent is t/unit; rational, so that no machine rounds it differently.
func rotation(t int) transform {
	square := t * t / unit
	sin, cos := 2*t*unit/(unit+square), (unit-square)*unit/(unit+square)
	return transform{xx: cos, xy: -sin, yx: sin, yy: cos}
}

// then applies b's linear map after a's.
func (a transform) then(b transform) transform {
	return transform{
		xx: (b.xx*a.xx + b.xy*a.yx) / unit, xy: (b.xx*a.xy + b.xy*a.yy) / unit,
		yx: (b.yx*a.xx + b.yy*a.yx) / unit, yy: (b.yx*a.xy + b.yy*a.yy) / unit,
		shift: b.shift,
	}
}

func (a transform) apply(p point) point {
	return point{(a.xx*p.x+a.xy*p.y)/unit + a.shift.x, (a.yx*p.x+a.yy*p.y)/unit + a.shift.y}
}

// crossing is where an outline meets a line of samples, and in which direction.
type crossing struct{ x, winding int }

// mask is how much of each pixel a shape covers, from 0 to opaque.
type mask [Size * Size]int

// fill rasterises an outline by the non-zero winding rule: exact along a line of samples, scans of them to a pixel.
func (m *mask) fill(shape outline, t transform) {
	*m = mask{}
	var lines [Size * scans][]crossing
	for _, c := range shape {
		a, b, d := t.apply(c[0]), t.apply(c[1]), t.apply(c[2])
		from := a
		for k := 1; k <= steps; k++ {
			p, q, r := (steps-k)*(steps-k), 2*k*(steps-k), k*k
			to := point{(p*a.x + q*b.x + r*d.x) / (steps * steps), (p*a.y + q*b.y + r*d.y) / (steps * steps)}
			cross(&lines, from, to)
			from = to
		}
	}
	for i, list := range lines {
		slices.SortFunc(list, func(a, b crossing) int { return a.x - b.x })
		winding := 0
		for k, c := range list {
			if winding += c.winding; winding != 0 {
				m.span(i/scans, c.x, list[k+1].x)
			}
		}
	}
}

// cross notes where the edge from a to b meets lines of samples.
func cross(lines *[Size * scans][]crossing, a, b point) {
	winding := 1
	if a.y > b.y {
		a, b, winding = b, a, -1
	}
	const pitch = subpixels / scans
	for i := max(0, (a.y+pitch/2)/pitch-1); i < len(lines); i++ {
		y := i*pitch + pitch/2
		if y < a.y {
			continue
		}
		if y >= b.y {
			return
		}
		lines[i] = append(lines[i], crossing{a.x + (y-a.y)*(b.x-a.x)/(b.y-a.y), winding})
	}
}

// span covers the part of a row between two places.
func (m *mask) span(row, from, to int) {
	from, to = max(from, 0), min(to, Size*subpixels)
	for x := from / subpixels; x*subpixels < to; x++ {
		m[row*Size+x] += min(to, (x+1)*subpixels) - max(from, x*subpixels)
	}
}
