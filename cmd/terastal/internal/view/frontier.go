package view

import (
	"bytes"
	"fmt"
	"html"
	"io"
	"math"
	"path/filepath"
	"slices"
	"strings"

	"github.com/terastal/terastal/internal/document"
	"github.com/terastal/terastal/sched/plan"
)

// WriteFrontiers writes the plots of all models and accelerators to the variants
// folder of an output folder, and names them.
func WriteFrontiers(out string, list []plan.Variants) (paths []string, err error) {
	for i := range list {
		v := &list[i]
		for k, name := range v.Accelerators {
			var b bytes.Buffer
			if err := Frontier(&b, v, k); err != nil {
				return nil, err
			}
			path := filepath.Join(out, "variants", v.Model+"-"+name+".svg")
			if err := document.WriteFile(path, b.Bytes()); err != nil {
				return nil, err
			}
			paths = append(paths, path)
		}
	}
	return paths, nil
}

// Frontier draws, as an SVG image, every candidate of a model on an
// accelerator: across, how many times faster than the original it is; up, its
// error, both in logarithms. Those in use for the accelerator are ringed, and
// each layer's frontier is a line.
func Frontier(w io.Writer, v *plan.Variants, accelerator int) error {
	const widthInText, height, left, top, right, bottom = 860, 520, 70, 40, 190, 50
	type dot struct {
		x, y float64
		c    *plan.Variant
	}
	var dots []dot
	low, high := math.Inf(1), math.Inf(-1)
	bottomE, topE := math.Inf(1), math.Inf(-1)
	for i := range v.Candidates {
		c := &v.Candidates[i]
		g := c.Gain(accelerator)
		if g <= 0 || c.Error <= 0 {
			continue
		}
		x, y := math.Log2(g), math.Log10(c.Error)
		dots = append(dots, dot{x, y, c})
		low, high, bottomE, topE = min(low, x), max(high, x), min(bottomE, y), max(topE, y)
	}
	low, high = math.Floor(min(low, 0)), math.Ceil(max(high, 1))
	bottomE, topE = math.Floor(min(bottomE, -1)), math.Ceil(max(topE, 0))
	px := func(x float64) float64 { return left + (x-low)/(high-low)*(widthInText-left-right) }
	py := func(y float64) float64 { return top + (topE-y)/(topE-bottomE)*(height-top-bottom) }
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="12">`+"\n", widthInText, height)
	fmt.Fprintf(&b, `<rect width="100%%" height="100%%" fill="white"/><text x="%d" y="22" font-size="15">%s on %s: candidates by speed and error</text>`+"\n", left, html.EscapeString(v.Model), html.EscapeString(v.Accelerators[accelerator]))
	for x := low; x <= high; x++ {
		fmt.Fprintf(&b, `<path d="M%.1f %dV%d" stroke="#ddd"/><text x="%.1f" y="%d" text-anchor="middle">%gx</text>`+"\n", px(x), top, height-bottom, px(x), height-bottom+18, math.Exp2(x))
	}
	for y := bottomE; y <= topE; y++ {
		fmt.Fprintf(&b, `<path d="M%d %.1fH%d" stroke="#ddd"/><text x="%d" y="%.1f" text-anchor="end">1e%g</text>`+"\n", left, py(y), widthInText-right, left-8, py(y)+4, y)
	}
	fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="middle">times as fast as the original</text>`+"\n", (left+widthInText-right)/2, height-12)
	fmt.Fprintf(&b, `<text transform="translate(18 %d) rotate(-90)" text-anchor="middle">squared error / variance of the layer's outputs</text>`+"\n", (top+height-bottom)/2)
	colours := []string{"#d62728", "#1f77b4", "#2ca02c", "#9467bd", "#8c564b", "#ff7f0e", "#17becf", "#7f7f7f"}
	var families []string
	for _, d := range dots {
		if !slices.Contains(families, d.c.Family) {
			families = append(families, d.c.Family)
		}
	}
	byLayer := map[int][]dot{}
	for _, d := range dots {
		if d.c.Frontier && d.c.Refused == "" {
			byLayer[d.c.Layer] = append(byLayer[d.c.Layer], d)
		}
	}
	for l := range len(v.Candidates) {
		line := byLayer[l]
		slices.SortFunc(line, func(a, b dot) int {
			if a.x < b.x {
				return -1
			}
			return 1
		})
		for i, d := range line {
			verb := "L"
			if i == 0 {
				verb = `<path fill="none" stroke="#bbb" d="M`
			}
			fmt.Fprintf(&b, "%s%.1f %.1f", verb, px(d.x), py(d.y))
		}
		if len(line) > 0 {
			b.WriteString("\"/>\n")
		}
	}
	for _, d := range dots {
		colour := colours[slices.Index(families, d.c.Family)%len(colours)]
		fill, ring := colour, ""
		if d.c.Refused != "" {
			fill = "none"
		}
		if slices.Contains(d.c.Wanted, v.Accelerators[accelerator]) {
			ring = fmt.Sprintf(`<circle cx="%.1f" cy="%.1f" r="8" fill="none" stroke="black"/>`, px(d.x), py(d.y))
		}
		fmt.Fprintf(&b, `<circle cx="%.1f" cy="%.1f" r="4" fill="%s" stroke="%s"><title>%s</title></circle>%s`+"\n", px(d.x), py(d.y), fill, colour,
			html.EscapeString(fmt.Sprintf("%s: %s %s, %.2fx, error %.2g", d.c.LayerName, d.c.Family, d.c.Parameters, math.Exp2(d.x), d.c.Error)), ring)
	}
	for i, f := range families {
		fmt.Fprintf(&b, `<circle cx="%d" cy="%d" r="4" fill="%s"/><text x="%d" y="%d">%s</text>`+"\n", widthInText-right+20, top+10+20*i, colours[i%len(colours)], widthInText-right+32, top+14+20*i, html.EscapeString(f))
	}
	fmt.Fprintf(&b, `<text x="%d" y="%d">ringed: in use</text><text x="%d" y="%d">hollow: refused</text>`+"\n</svg>\n", widthInText-right+12, top+24+20*len(families), widthInText-right+12, top+44+20*len(families))
	_, err := io.WriteString(w, b.String())
	return err
}
