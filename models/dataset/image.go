package dataset

import (
	"cmp"
	"encoding/csv"
	"errors"
	"fmt"
	"image"
	_ "image/gif" // the formats that images are read in
	_ "image/jpeg"
	_ "image/png"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/image/draw"
	"gorgonia.org/tensor"

	"github.com/terastal/terastal/internal/ort"
	"github.com/terastal/terastal/models"
	"github.com/terastal/terastal/models/dense"
)

// picture is a model's input that is an image of one or three channels.
type picture struct {
	models.Tensor
	channels, height, width int
	last                    bool // channels come last
	Pixels
}

func newPicture(o Pixels, t models.Tensor) (*picture, error) {
	p := &picture{Tensor: t, Pixels: o}
	s := t.Shape
	colours := func(n int64) bool { return n == 1 || n == 3 }
	switch {
	case len(s) == 4 && s[0] == 1 && colours(s[1]):
		p.channels, p.height, p.width = int(s[1]), int(s[2]), int(s[3])
	case len(s) == 4 && s[0] == 1 && colours(s[3]):
		p.channels, p.height, p.width, p.last = int(s[3]), int(s[1]), int(s[2]), true
	default:
		return nil, fmt.Errorf("%w: the model takes %v, which is no image of 1 or 3 channels", ErrInvalid, t)
	}
	for what, list := range map[string][]float64{"mean": o.Mean, "std": o.Std} {
		if len(list) > 1 && len(list) != p.channels {
			return nil, fmt.Errorf("%w: %s has %d values for %d channels", ErrInvalid, what, len(list), p.channels)
		}
	}
	p.Range = cmp.Or(p.Range, 1)
	switch {
	case t.Type != ort.Float && t.Type != ort.Uint8:
		return nil, fmt.Errorf("%w: the model takes %v; images become float32 or uint8", ErrInvalid, t)
	case p.Range != 1 && p.Range != 255:
		return nil, fmt.Errorf("%w: the range of pixels is %v, must be 1 or 255", ErrInvalid, o.Range)
	case slices.Contains(o.Std, 0):
		return nil, fmt.Errorf("%w: std is 0", ErrInvalid)
	case t.Type == ort.Uint8 && len(o.Mean)+len(o.Std) > 0:
		return nil, fmt.Errorf("%w: mean and std are for float32, the model takes %v", ErrInvalid, t)
	}
	return p, nil
}

func pick(list []float64, c int, or float64) float64 {
	switch len(list) {
	case 0:
		return or
	case 1:
		return list[0]
	}
	return list[c]
}

// input makes the model's input of pixels, which are in its layout.
func (p *picture) input(pixels []uint8) (*tensor.Dense, error) {
	plane := p.height * p.width
	next, apart := 1, plane // from pixel to pixel, and from channel to channel
	if p.last {
		next, apart = p.channels, 1
	}
	if p.BGR && p.channels == 3 {
		pixels = slices.Clone(pixels)
		for i := range plane {
			red, blue := &pixels[i*next], &pixels[i*next+2*apart]
			*red, *blue = *blue, *red
		}
	}
	if p.Type == ort.Uint8 {
		return dense.Of(p.Tensor, pixels)
	}
	values := make([]float32, len(pixels))
	for c := range p.channels {
		var level [256]float32
		mean, std, full := pick(p.Mean, c, 0), pick(p.Std, c, 1), p.Range/255
		for v := range level {
			level[v] = float32((float64(v)*full - mean) / std)
		}
		for i := range plane {
			at := i*next + c*apart
			values[at] = level[pixels[at]]
		}
	}
	return dense.Of(p.Tensor, ort.Data(values))
}

// openFolder opens images that a CSV file lists with their classes, or, without
// one, all of a folder in the order of their names.
func openFolder(o Spec, in []models.Tensor) (*Set, error) {
	if len(in) != 1 {
		return nil, fmt.Errorf("%w: images give one input, the model has %d: use a .npz file with an array for each",
			ErrInvalid, len(in))
	}
	p, err := newPicture(o.Pixels, in[0])
	if err != nil {
		return nil, err
	}
	var files []string
	labels := []int(nil)
	if o.Labels == "" {
		entries, err := os.ReadDir(o.Source)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			switch strings.ToLower(filepath.Ext(e.Name())) {
			case ".jpg", ".jpeg", ".png", ".gif":
				files = append(files, e.Name())
			}
		}
	} else if files, labels, err = readLabels(o.Labels); err != nil {
		return nil, err
	}
	s := &Set{n: len(files), label: unlabelled}
	if labels != nil {
		s.label = func(i int) int { return labels[i] }
	}
	s.inputs = one(func(i int) (*tensor.Dense, error) {
		if !filepath.IsLocal(files[i]) {
			return nil, fmt.Errorf("%w: %s leads outside the folder", ErrInvalid, files[i])
		}
		return p.read(filepath.Join(o.Source, files[i]))
	})
	return s, nil
}

// readLabels reads lines of a file's name and its class; a first line without a number is a header.
func readLabels(path string) (files []string, labels []int, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	r := csv.NewReader(f)
	r.FieldsPerRecord = -1
	for line := 1; ; line++ {
		row, err := r.Read()
		if errors.Is(err, io.EOF) {
			return files, labels, nil
		}
		if err != nil {
			return nil, nil, fmt.Errorf("%w: %w", ErrInvalid, err)
		}
		if len(row) < 2 {
			return nil, nil, fmt.Errorf("%w: %s line %d: need a file and its class", ErrInvalid, path, line)
		}
		class, err := strconv.Atoi(strings.TrimSpace(row[1]))
		if err != nil && line == 1 {
			continue
		}
		if err != nil || class < 0 {
			return nil, nil, fmt.Errorf("%w: %s line %d: the class %q is no whole number from 0 on",
				ErrInvalid, path, line, row[1])
		}
		files, labels = append(files, row[0]), append(labels, class)
	}
}

// maxPixels bounds the size of images: a small file can say that it is huge.
const maxPixels = 1 << 28

// read scales an image so that it covers the input, and takes its middle. Transparency is left out.
func (p *picture) read(path string) (*tensor.Dense, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	c, _, err := image.DecodeConfig(f)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrInvalid, path, err)
	}
	if c.Width < 1 || c.Height < 1 || c.Width > maxPixels/c.Height {
		return nil, fmt.Errorf("%w: %s has %d x %d pixels, which is none or too many",
			ErrInvalid, path, c.Width, c.Height)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	img, _, err := image.Decode(f)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrInvalid, path, err)
	}
	b := img.Bounds()
	scale := max(float64(p.width)/float64(b.Dx()), float64(p.height)/float64(b.Dy()))
	w, h := int(float64(p.width)/scale+0.5), int(float64(p.height)/scale+0.5)
	x, y := b.Min.X+(b.Dx()-w)/2, b.Min.Y+(b.Dy()-h)/2
	out := image.NewNRGBA(image.Rect(0, 0, p.width, p.height))
	draw.BiLinear.Scale(out, out.Bounds(), img, image.Rect(x, y, x+max(1, w), y+max(1, h)), draw.Src, nil)
	pixels := make([]uint8, 0, p.channels*p.height*p.width)
	for at := 0; at < len(out.Pix); at += 4 {
		r, g, b := out.Pix[at], out.Pix[at+1], out.Pix[at+2]
		if p.channels == 1 {
			pixels = append(pixels, uint8((299*int(r)+587*int(g)+114*int(b)+500)/1000))
		} else {
			pixels = append(pixels, r, g, b)
		}
	}
	if !p.last && p.channels > 1 {
		rows := tensor.New(tensor.WithShape(p.height, p.width, p.channels), tensor.WithBacking(pixels))
		if err := errors.Join(rows.T(2, 0, 1), rows.Transpose()); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	return p.input(pixels)
}
