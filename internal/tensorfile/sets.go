package tensorfile

import (
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	_ "image/gif"  // decoders that folders of images need
	_ "image/jpeg" // the same
	_ "image/png"  // the same
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/image/draw"

	"github.com/terastal/terastal/models"
)

// maxSets bounds how many input sets are read; more are left out.
const maxSets = 256

// Normalization says how the pixels of images become numbers: a channel's value
// from 0 to 1, less Mean, over Std. Zero values mean Mean 0 and Std 1.
type Normalization struct {
	Mean, Std []float64 // by channel, or one for all
}

// ReadSets reads input sets for the given tensors, the inputs of a model: by
// set and tensor. The path names a .npy file (models with one input), a .npz
// file with an array per input, or a folder of images, in the order of their
// names (models with one input of 1 or 3 channels).
func ReadSets(path string, want []models.Tensor, n Normalization) ([][][]byte, error) {
	sets, err := readSets(path, want, n)
	if err != nil {
		return nil, fmt.Errorf("inputs: %s %w", path, err)
	}
	return sets, nil
}

func readSets(path string, want []models.Tensor, n Normalization) ([][][]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, errors.Unwrap(err)
	}
	archive := strings.EqualFold(filepath.Ext(path), ".npz")
	if !archive && len(want) != 1 {
		return nil, fmt.Errorf("gives one input, the model has %d: use a .npz file with an array for each", len(want))
	}
	var all []*arrays
	switch {
	case info.IsDir():
		var a *arrays
		if a, err = readImages(path, want[0], n); err == nil {
			all = []*arrays{a}
		}
	case archive:
		all, err = readArchive(path, want)
	default:
		var f *os.File
		if f, err = os.Open(path); err != nil {
			return nil, errors.Unwrap(err)
		}
		defer f.Close()
		var a *arrays
		if a, err = readArrays(f, want[0]); err == nil {
			all = []*arrays{a}
		}
	}
	if err != nil {
		return nil, err
	}
	var sets [][][]byte
	for i := range all[0].data {
		var set [][]byte
		for j, a := range all {
			if len(a.data) != len(all[0].data) {
				return nil, fmt.Errorf("holds %d tensors for %q and %d for %q: give as many for each", len(all[0].data), want[0].Name, len(a.data), want[j].Name)
			}
			set = append(set, a.data[i])
		}
		sets = append(sets, set)
	}
	return sets, nil
}

// imageShape finds the sides and channels of an image tensor, in NCHW or NHWC.
func imageShape(t models.Tensor) (height, width, channels int, last bool, err error) {
	s := t.Shape
	few := func(c int64) bool { return c == 1 || c == 3 }
	switch {
	case len(s) != 4 || s[0] != 1 || t.Type.String() != "float32" && t.Type.String() != "uint8":
	case few(s[1]):
		return int(s[2]), int(s[3]), int(s[1]), false, nil
	case few(s[3]):
		return int(s[1]), int(s[2]), int(s[3]), true, nil
	}
	return 0, 0, 0, false, fmt.Errorf("holds images, but input %v is not float32 or uint8 of [1,C,H,W] or [1,H,W,C] with 1 or 3 channels", t)
}

func readImages(folder string, t models.Tensor, n Normalization) (*arrays, error) {
	height, width, channels, last, err := imageShape(t)
	if err != nil {
		return nil, err
	}
	for _, list := range [][]float64{n.Mean, n.Std} {
		if len(list) > 1 && len(list) != channels {
			return nil, fmt.Errorf("has images of %d channels, mean or std lists %d values", channels, len(list))
		}
	}
	if slices.Contains(n.Std, 0) {
		return nil, errors.New("cannot be normalised: std is 0")
	}
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, err
	}
	a := &arrays{}
	for _, e := range entries {
		if ext := strings.ToLower(filepath.Ext(e.Name())); !slices.Contains([]string{".png", ".jpg", ".jpeg", ".gif"}, ext) || len(a.data) == maxSets {
			continue
		}
		img, err := decode(filepath.Join(folder, e.Name()))
		if err != nil {
			return nil, fmt.Errorf("holds %s: %w", e.Name(), err)
		}
		scaled := image.NewNRGBA(image.Rect(0, 0, width, height))
		draw.BiLinear.Scale(scaled, scaled.Bounds(), img, img.Bounds(), draw.Src, nil)
		a.data = append(a.data, pixels(scaled, t, channels, last, n))
	}
	if len(a.data) == 0 {
		return nil, errors.New("holds no .png, .jpg or .gif file")
	}
	return a, nil
}

func decode(path string) (image.Image, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, errors.Unwrap(err)
	}
	defer f.Close()
	c, _, err := image.DecodeConfig(f)
	if err != nil {
		return nil, err
	}
	if int64(c.Width)*int64(c.Height) > 1<<28 {
		return nil, fmt.Errorf("%dx%d pixels are too many", c.Width, c.Height)
	}
	if _, err := f.Seek(0, 0); err != nil {
		return nil, err
	}
	img, _, err := image.Decode(f)
	return img, err
}

// pixels are the tensor's bytes. One channel is luminance (Rec. 601).
func pixels(img *image.NRGBA, t models.Tensor, channels int, last bool, n Normalization) []byte {
	data := make([]byte, t.Bytes())
	plane := img.Rect.Dx() * img.Rect.Dy()
	for p := range plane {
		rgb := img.Pix[4*p : 4*p+3]
		for c := range channels {
			v := float64(rgb[c])
			if channels == 1 {
				v = 0.299*float64(rgb[0]) + 0.587*float64(rgb[1]) + 0.114*float64(rgb[2])
			}
			at := c*plane + p
			if last {
				at = p*channels + c
			}
			if t.Type.Size() == 1 {
				data[at] = byte(math.Round(v))
				continue
			}
			x := (v/255 - pick(n.Mean, c, 0)) / pick(n.Std, c, 1)
			binary.NativeEndian.PutUint32(data[4*at:], math.Float32bits(float32(x)))
		}
	}
	return data
}

func pick(list []float64, c int, otherwise float64) float64 {
	switch len(list) {
	case 0:
		return otherwise
	case 1:
		return list[0]
	}
	return list[c]
}
