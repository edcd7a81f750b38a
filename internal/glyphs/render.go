package glyphs

import "math/rand/v2"

// level is the unit of brightness on a canvas: 1/256 of a gray level.
const level = 256

// canvas is an image under construction, in levels from 0 to 255*level.
type canvas [Size * Size]int

// render draws an image of a class.
func render(r *rand.Rand, label int) []byte {
	var c canvas
	var m mask
	paper, ink := tones(r)
	c.light(r, paper)
	for range r.IntN(4) {
		m.fill(fragment(r))
		c.paint(&m, toward(paper, ink, between(r, 15, 75)))
	}
	m.fill(outlines()[r.IntN(len(outlines()))][label], placed(r))
	c.paint(&m, ink)
	for range r.IntN(3) {
		m.fill(stroke(r))
		c.paint(&m, toward(paper, ink, between(r, -30, 130)))
	}
	c.blur(r.IntN(5))
	return c.develop(r, between(r, 0, 22))
}

// between draws a whole number from low to high, both included.
func between(r *rand.Rand, low, high int) int { return low + r.IntN(high-low+1) }

// toward is percent of the way from one tone to another.
func toward(from, to, percent int) int { return from + (to-from)*percent/100 }

// tones draws the gray levels of the background and of the glyph, at least 48 apart, whichever is the darker.
func tones(r *rand.Rand) (paper, ink int) {
	for {
		paper, ink = between(r, 10, 245), between(r, 10, 245)
		if contrast := max(paper-ink, ink-paper); contrast >= 48 {
			return paper, ink
		}
	}
}

// light fills the canvas with the background under uneven light: a grid of brightnesses, interpolated.
func (c *canvas) light(r *rand.Rand, paper int) {
	const cells = 3
	const pitch = Size / cells
	var grid [cells + 1][cells + 1]int
	reach := r.IntN(31)
	for i := range grid {
		for j := range grid[i] {
			grid[i][j] = (paper + between(r, -reach, reach)) * level
		}
	}
	for y := range Size {
		for x := range Size {
			i, j, down, right := y/pitch, x/pitch, y%pitch, x%pitch
			top := grid[i][j]*(pitch-right) + grid[i][j+1]*right
			bottom := grid[i+1][j]*(pitch-right) + grid[i+1][j+1]*right
			c[y*Size+x] = (top*(pitch-down) + bottom*down) / (pitch * pitch)
		}
	}
}

// paint lays a shape of one tone over the canvas.
func (c *canvas) paint(m *mask, tone int) {
	for i, cover := range m {
		c[i] += (tone*level - c[i]) * cover / opaque
	}
}

// placed draws where and how the glyph to name stands: turned by up to 23
// degrees, slanted, stretched, shifted by up to 5 pixels.
func placed(r *rand.Rand) transform {
	em := between(r, 30, 54)
	t := scaled(em*between(r, 80, 120)/100, em)
	t = t.then(transform{xx: unit, xy: between(r, -unit/4, unit/4), yy: unit})
	t = t.then(rotation(between(r, -unit/5, unit/5)))
	t.shift = point{middle + between(r, -5*subpixels, 5*subpixels), middle + between(r, -5*subpixels, 5*subpixels)}
	return t
}

const middle = Size * subpixels / 2

// scaled is the map of an outline whose em is this many pixels wide and high.
func scaled(width, height int) transform {
	return transform{xx: width * subpixels * unit / unitsPerEm, yy: height * subpixels * unit / unitsPerEm}
}

// fragment draws part of some other glyph, in any direction, whose middle is near or beyond the edge.
func fragment(r *rand.Rand) (outline, transform) {
	font := outlines()[r.IntN(len(outlines()))]
	em := between(r, 16, 64)
	t := scaled(em, em).then(rotation(between(r, -unit, unit)))
	away, along := between(r, 18, 30)*subpixels, between(r, -24, 24)*subpixels
	t.shift = [...]point{
		{middle + away, middle + along}, {middle - away, middle + along},
		{middle + along, middle + away}, {middle + along, middle - away},
	}[r.IntN(4)]
	return font[r.IntN(len(font))], t
}

// stroke draws a straight line of up to two pixels across the image.
func stroke(r *rand.Rand) (outline, transform) {
	const far = 60 // pixels, beyond every corner
	half := between(r, subpixels/4, subpixels)
	t := rotation(between(r, -unit, unit))
	t.shift = point{between(r, 0, 2*middle), between(r, 0, 2*middle)}
	end := far * subpixels
	return polygon(point{-end, -half}, point{end, -half}, point{end, half}, point{-end, half}), t
}

// blur smooths by the kernel 1 2 1 in both directions, times over; beyond the edge lies what lies on it.
func (c *canvas) blur(times int) {
	for range times {
		for _, stride := range []int{1, Size} {
			before := *c
			for i := range c {
				at := i / stride % Size
				last, next := i, i
				if at > 0 {
					last -= stride
				}
				if at < Size-1 {
					next += stride
				}
				c[i] = (before[last] + 2*before[i] + before[next] + 2) / 4
			}
		}
	}
}

// develop adds noise of this standard deviation, in gray levels, and rounds.
func (c *canvas) develop(r *rand.Rand, deviation int) []byte {
	pixels := make([]byte, len(c))
	for i, v := range c {
		// Twelve uniform numbers sum to nearly a normal one of deviation 1.
		sum := -12 * 1 << 9
		for bits, k := r.Uint64(), 0; k < 12; k++ {
			if k == 6 {
				bits = r.Uint64()
			}
			sum += int(bits & 0x3ff)
			bits >>= 10
		}
		v += deviation * sum * level / (1 << 10)
		pixels[i] = byte(min(max((v+level/2)/level, 0), 255))
	}
	return pixels
}
