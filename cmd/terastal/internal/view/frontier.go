package view

import (
	"cmp"
	"fmt"
	"html"
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
			path := filepath.Join(out, "variants", v.Model+"-"+name+".svg")
			if err := document.WriteFile(path, []byte(drawFrontier(v, k))); err != nil {
				return nil, err
			}
			paths = append(paths, path)
		}
	}
	return paths, nil
}

// frontierColours are those of families; the image is on white.
var frontierColours = [...]string{"#d62728", "#1f77b4", "#2ca02c", "#9467bd", "#8c564b", "#ff7f0e", "#17becf",
	"#7f7f7f"}

// frontier is the image under construction: across, how many times faster than
// the original a candidate is, in powers of two; up, its error, in powers of ten.
type frontier struct {
	strings.Builder
	x, y     scale
	families []string
}

// candidate is one that has a place in the image.
type candidate struct {
	*plan.Variant
	x, y float64
}

// drawFrontier draws, as an SVG image, every candidate of a model on an accelerator. Those in use for the accelerator
// are ringed, and each layer's frontier is a line.
func drawFrontier(v *plan.Variants, accelerator int) string {
	f := &frontier{x: scale{min: 0, max: 1, from: 70, to: 670}, y: scale{min: -1, max: 0, from: 470, to: 40}}
	var all []candidate
	for i := range v.Candidates {
		c := &v.Candidates[i]
		g := c.Gain(accelerator)
		if g <= 0 || c.Error <= 0 {
			continue
		}
		x, y := math.Log2(g), math.Log10(c.Error)
		all = append(all, candidate{c, x, y})
		f.x.min, f.x.max = min(f.x.min, math.Floor(x)), max(f.x.max, math.Ceil(x))
		f.y.min, f.y.max = min(f.y.min, math.Floor(y)), max(f.y.max, math.Ceil(y))
		if !slices.Contains(f.families, c.Family) {
			f.families = append(f.families, c.Family)
		}
	}
	f.frame(v.Model + " on " + v.Accelerators[accelerator])
	f.lines(all)
	for _, c := range all {
		f.dot(c, slices.Contains(c.Wanted, v.Accelerators[accelerator]))
	}
	f.legend()
	return f.String()
}

func (f *frontier) add(format string, args ...any) { fmt.Fprintf(f, format+"\n", args...) }

// frame draws title, grid and axes.
func (f *frontier) frame(title string) {
	f.add(`<svg xmlns="http://www.w3.org/2000/svg" width="860" height="520" font-family="sans-serif" font-size="12">`)
	f.add(`<rect width="100%%" height="100%%" fill="white"/>`)
	f.add(`<text x="70" y="22" font-size="15">%s: candidates by speed and error</text>`, html.EscapeString(title))
	for x := f.x.min; x <= f.x.max; x++ {
		f.add(`<path d="M%.1f 40V470" stroke="#ddd"/><text x="%.1f" y="488" text-anchor="middle">%gx</text>`, f.x.at(x),
			f.x.at(x), math.Exp2(x))
	}
	for y := f.y.min; y <= f.y.max; y++ {
		f.add(`<path d="M70 %.1fH670" stroke="#ddd"/><text x="62" y="%.1f" text-anchor="end">1e%g</text>`, f.y.at(y),
			f.y.at(y)+4, y)
	}
	f.add(`<text x="370" y="508" text-anchor="middle">times as fast as the original</text>`)
	f.add(`<text transform="translate(18 255) rotate(-90)" text-anchor="middle">` +
		`squared error / variance of the layer's outputs</text>`)
}

// lines draws the frontier of every layer.
func (f *frontier) lines(all []candidate) {
	front := slices.DeleteFunc(slices.Clone(all), func(c candidate) bool { return !c.Frontier || c.Refused != "" })
	slices.SortStableFunc(front, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.Layer, b.Layer), cmp.Compare(a.x, b.x))
	})
	for i, c := range front {
		if i == 0 || front[i-1].Layer != c.Layer {
			fmt.Fprintf(f, `<path fill="none" stroke="#bbb" d="M%.1f %.1f`, f.x.at(c.x), f.y.at(c.y))
		} else {
			fmt.Fprintf(f, "L%.1f %.1f", f.x.at(c.x), f.y.at(c.y))
		}
		if i+1 == len(front) || front[i+1].Layer != c.Layer {
			f.add(`"/>`)
		}
	}
}

func (f *frontier) dot(c candidate, ringed bool) {
	colour := f.colour(c.Family)
	fill := colour
	if c.Refused != "" {
		fill = "none"
	}
	title := fmt.Sprintf("%s: %s %s, %.2fx, error %.2g", c.LayerName, c.Family, c.Parameters, math.Exp2(c.x), c.Error)
	f.add(`<circle cx="%.1f" cy="%.1f" r="4" fill="%s" stroke="%s"><title>%s</title></circle>`, f.x.at(c.x), f.y.at(c.y),
		fill, colour, html.EscapeString(title))
	if ringed {
		f.add(`<circle cx="%.1f" cy="%.1f" r="8" fill="none" stroke="black"/>`, f.x.at(c.x), f.y.at(c.y))
	}
}

func (f *frontier) colour(family string) string {
	return frontierColours[slices.Index(f.families, family)%len(frontierColours)]
}

func (f *frontier) legend() {
	y := 50
	for _, name := range f.families {
		f.add(`<circle cx="690" cy="%d" r="4" fill="%s"/><text x="702" y="%d">%s</text>`, y, f.colour(name), y+4,
			html.EscapeString(name))
		y += 20
	}
	f.add(`<text x="682" y="%d">ringed: in use</text><text x="682" y="%d">hollow: refused</text>`, y+14, y+34)
	f.add("</svg>")
}
