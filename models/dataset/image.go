package dataset

import (
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

	"github.com/terastal/terastal/models"
)

// picture is the layout of a model's input that is an image of one or three
// channels.
type picture struct {
	channels, height, width int
	last                    bool // channels come last
	bytes                   bool // pixels stay bytes
	Pixels
}

func newPicture(o Pixels, t models.Tensor) (picture, error) {
	p := picture{Pixels: o}
	s := t.Shape
	colours := func(n int64) bool { return n == 1 || n == 3 }
	switch {
	case len(s) == 4 && s[0] == 1 && colours(s[1]):
		p.channels, p.height, p.width = int(s[1]), int(s[2]), int(s[3])
	case len(s) == 4 && s[0] == 1 && colours(s[3]):
		p.channels, p.height, p.width, p.last = int(s[3]), int(s[1]), int(s[2]), true
	default:
		return p, fmt.Errorf("%w: the model takes %v, which is no image of 1 or 3 channels", ErrInvalid, t)
	}
	switch t.Type.String() {
	case "float32":
	case "uint8":
		p.bytes = true
	default:
		return p, fmt.Errorf("%w: the model takes %v; images become float32 or uint8", ErrInvalid, t)
	}
	for what, list := range map[string][]float64{"mean": o.Mean, "std": o.Std} {
		if len(list) > 1 && len(list) != p.channels {
			return p, fmt.Errorf("%w: %s has %d values for %d channels", ErrInvalid, what, len(list), p.channels)
		}
	}
	if p.Range == 0 {
		p.Range = 1
	}
	if p.Range != 1 && p.Range != 255 {
		return p, fmt.Errorf("%w: the range of pixels is %v, must be 1 or 255", ErrInvalid, o.Range)
	}
	if slices.Contains(o.Std, 0) {
		return p, fmt.Errorf("%w: std is 0", ErrInvalid)
	}
	if p.bytes && len(o.Mean)+len(o.Std) > 0 {
		return p, fmt.Errorf("%w: mean and std are for float32, the model takes %v", ErrInvalid, t)
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

// input makes the model's input of pixels, each a row of channels.
func (p *picture) input(pixel func(y, x, c int) uint8) []byte {
	values := make([]float32, p.channels*p.height*p.width)
	full := p.Range / 255
	if p.bytes {
		full = 1
	}
	for c := range p.channels {
		from := c
		if p.BGR {
			from = p.channels - 1 - c
		}
		mean, std := pick(p.Mean, c, 0), pick(p.Std, c, 1)
		for y := range p.height {
			for x := range p.width {
				at := (c*p.height+y)*p.width + x
				if p.last {
					at = (y*p.width+x)*p.channels + c
				}
				values[at] = float32((float64(pixel(y, x, from))*full - mean) / std)
			}
		}
	}
	if !p.bytes {
		return raw(values)
	}
	out := make([]byte, len(values))
	for i, v := range values {
		out[i] = byte(v)
	}
	return out
}

// openFolder opens images that a CSV file lists with their classes, or, without
// one, all of a folder in the order of their names.
func openFolder(o Spec, in []models.Tensor) (*Set, error) {
	if len(in) != 1 {
		return nil, fmt.Errorf("%w: images give one input, the model has %d: use a .npz file with an array for each", ErrInvalid, len(in))
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
	s.inputs = func(i int) ([][]byte, error) {
		if !filepath.IsLocal(files[i]) {
			return nil, fmt.Errorf("%w: %s leads outside the folder", ErrInvalid, files[i])
		}
		data, err := p.read(filepath.Join(o.Source, files[i]))
		if err != nil {
			return nil, err
		}
		return [][]byte{data}, nil
	}
	return s, nil
}

// readLabels reads lines of a file's name and its class; a first line without a
// number is a header.
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
			return nil, nil, fmt.Errorf("%w: %s line %d: the class %q is no whole number from 0 on", ErrInvalid, path, line, row[1])
		}
		files, labels = append(files, row[0]), append(labels, class)
	}
}

// maxPixels bounds the size of images: a small file can say that it is huge.
const maxPixels = 1 << 28

// read scales an image so that it covers the input, and takes its middle.
// Transparency is left out.
func (p *picture) read(path string) ([]byte, error) {
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
		return nil, fmt.Errorf("%w: %s has %d x %d pixels, which is none or too many", ErrInvalid, path, c.Width, c.Height)
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
	if p.channels == 1 {
		return p.input(func(y, x, _ int) uint8 {
			c := out.NRGBAAt(x, y)
			return uint8((299*int(c.R) + 587*int(c.G) + 114*int(c.B) + 500) / 1000)
		}), nil
	}
	return p.input(func(y, x, c int) uint8 { return out.Pix[out.PixOffset(x, y)+c] }), nil
}
