package glyphs

import (
	"fmt"
	"sync"

	"golang.org/x/image/font/gofont/gobold"
	"golang.org/x/image/font/gofont/gobolditalic"
	"golang.org/x/image/font/gofont/goitalic"
	"golang.org/x/image/font/gofont/gomedium"
	"golang.org/x/image/font/gofont/gomediumitalic"
	"golang.org/x/image/font/gofont/gomono"
	"golang.org/x/image/font/gofont/gomonobold"
	"golang.org/x/image/font/gofont/gomonobolditalic"
	"golang.org/x/image/font/gofont/gomonoitalic"
	"golang.org/x/image/font/gofont/goregular"
	"golang.org/x/image/font/sfnt"
	"golang.org/x/image/math/fixed"
)

// unitsPerEm is the resolution of outlines, that of the Go fonts themselves.
const unitsPerEm = 2048

// point is in font units, y down, or in 1/256 pixels once it is placed.
type point struct{ x, y int }

// curve is a quadratic Bézier curve; lines have their middle in place of the control point.
type curve [3]point

// outline is a closed shape around the origin, which is the middle of its bounding box.
type outline []curve

// outlines are those of every font and class. The small-caps fonts are left
// out: their lower case looks like our capitals.
var outlines = sync.OnceValue(func() [][]outline {
	var fonts [][]outline
	for _, ttf := range [][]byte{
		goregular.TTF, goitalic.TTF, gomedium.TTF, gomediumitalic.TTF, gobold.TTF, gobolditalic.TTF,
		gomono.TTF, gomonoitalic.TTF, gomonobold.TTF, gomonobolditalic.TTF,
	} {
		fonts = append(fonts, load(ttf))
	}
	return fonts
})

// load reads the outlines of all classes; the fonts are part of the program,
// so that one it cannot read is a broken build.
func load(ttf []byte) []outline {
	font, err := sfnt.Parse(ttf)
	if err != nil {
		panic(fmt.Sprintf("glyphs: reading a Go font: %v", err))
	}
	var buffer sfnt.Buffer
	var list []outline
	for _, r := range Classes {
		index, err := font.GlyphIndex(&buffer, r)
		if err != nil || index == 0 {
			panic(fmt.Sprintf("glyphs: a Go font without %q: %v", r, err))
		}
		segments, err := font.LoadGlyph(&buffer, index, fixed.I(unitsPerEm), nil)
		if err != nil {
			panic(fmt.Sprintf("glyphs: outline of %q: %v", r, err))
		}
		list = append(list, centred(segments))
	}
	return list
}

// centred makes an outline of a font's segments.
func centred(segments sfnt.Segments) outline {
	bounds := segments.Bounds()
	middle := bounds.Min.Add(bounds.Max).Div(fixed.I(2))
	at := func(p fixed.Point26_6) point { return point{(p.X - middle.X).Round(), (p.Y - middle.Y).Round()} }
	var out outline
	var pen point
	for _, s := range segments {
		switch s.Op {
		case sfnt.SegmentOpMoveTo:
			pen = at(s.Args[0])
		case sfnt.SegmentOpLineTo:
			end := at(s.Args[0])
			out = append(out, line(pen, end))
			pen = end
		case sfnt.SegmentOpQuadTo:
			end := at(s.Args[1])
			out = append(out, curve{pen, at(s.Args[0]), end})
			pen = end
		default:
			panic("glyphs: a cubic curve in a TrueType font")
		}
	}
	return out
}

func line(a, b point) curve { return curve{a, {(a.x + b.x) / 2, (a.y + b.y) / 2}, b} }

// polygon is the closed shape between corners.
func polygon(corners ...point) outline {
	var out outline
	for i, p := range corners {
		out = append(out, line(p, corners[(i+1)%len(corners)]))
	}
	return out
}
