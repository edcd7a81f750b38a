package tensorfile

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"image"
	"image/color"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/terastal/terastal/internal/ort"
	"github.com/terastal/terastal/models"
)

func tensor(name string, typ models.DataType, shape ...int64) models.Tensor {
	return models.Tensor{Name: name, Type: typ, Shape: shape}
}

func counting(n int64) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i)
	}
	return b
}

func write(t *testing.T, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// What is written is read again, for every type and shape.
func TestArrayRoundTrip(t *testing.T) {
	for _, x := range []models.Tensor{tensor("x", ort.Float, 2, 3), tensor("x", ort.Int64), tensor("x", ort.Uint8, 5), tensor("x", ort.Float16, 1, 1, 4), tensor("x", ort.Bool, 3)} {
		data, err := EncodeArray(x, counting(x.Bytes()))
		if err != nil {
			t.Fatal(err)
		}
		if len(data)%64 != int(x.Bytes()%64) {
			t.Errorf("%v: the data begins at %d, not aligned", x, len(data)-int(x.Bytes()))
		}
		got, err := ReadArray(write(t, "x.npy", data), x)
		if err != nil || !bytes.Equal(got, counting(x.Bytes())) {
			t.Errorf("%v: %v %v", x, got, err)
		}
	}
	if _, err := EncodeArray(tensor("x", ort.BFloat16, 1), make([]byte, 2)); err == nil {
		t.Error("bfloat16 was written")
	}
}

// A file may hold several tensors: stacked, or along a batch dimension of 1.
func TestReadSets(t *testing.T) {
	x := tensor("x", ort.Uint8, 1, 4)
	for _, shape := range [][]int64{{3, 4}, {3, 1, 4}} {
		data, err := EncodeArray(tensor("x", ort.Uint8, shape...), counting(12))
		if err != nil {
			t.Fatal(err)
		}
		sets, err := ReadSets(write(t, "x.npy", data), []models.Tensor{x}, Normalization{})
		if err != nil || len(sets) != 3 || !bytes.Equal(sets[2][0], []byte{8, 9, 10, 11}) {
			t.Errorf("%v: %v %v", shape, sets, err)
		}
	}
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for name, n := range map[string]int64{"x": 2, "y": 2, "z": 1} {
		w, _ := z.Create(name + ".npy")
		data, _ := EncodeArray(tensor(name, ort.Uint8, n, 4), counting(4*n))
		w.Write(data)
	}
	z.Close()
	path := write(t, "x.npz", b.Bytes())
	y, zz := x, x
	y.Name, zz.Name = "y", "z"
	if sets, err := ReadSets(path, []models.Tensor{y, x}, Normalization{}); err != nil || len(sets) != 2 || len(sets[1]) != 2 {
		t.Errorf("%v %v", sets, err)
	}
	for _, c := range []struct {
		path string
		want []models.Tensor
		text string
	}{
		{path, []models.Tensor{x, zz}, "as many for each"},
		{path, []models.Tensor{tensor("w", ort.Uint8, 1, 4)}, `no array "w"`},
		{path, []models.Tensor{tensor("x", ort.Uint8, 1, 5)}, "expected is uint8[1 5]"},
		{path, []models.Tensor{tensor("x", ort.Float, 1, 4)}, "expected is float32"},
		{write(t, "x.npy", []byte("nothing")), []models.Tensor{x}, "is no .npy file"},
		{write(t, "x.npz", []byte("nothing")), []models.Tensor{x}, "is no .npz file"},
		{write(t, "x.npy", nil), []models.Tensor{x, y}, "use a .npz file"},
		{t.TempDir(), []models.Tensor{tensor("x", ort.Float, 1, 3, 8, 8)}, "holds no .png"},
		{t.TempDir(), []models.Tensor{x}, "1 or 3 channels"},
		{"/nowhere", []models.Tensor{x}, "no such file"},
	} {
		if _, err := ReadSets(c.path, c.want, Normalization{}); err == nil || !strings.Contains(err.Error(), c.text) || !strings.Contains(err.Error(), c.path) {
			t.Errorf("%v: want %q", err, c.text)
		}
	}
}

// Images are stretched to the input's size and normalised by channel.
func TestImages(t *testing.T) {
	dir := t.TempDir()
	img := image.NewRGBA(image.Rect(0, 0, 7, 5))
	for y := range 5 {
		for x := range 7 {
			img.Set(x, y, color.RGBA{255, 51, 0, 255})
		}
	}
	var b bytes.Buffer
	png.Encode(&b, img)
	for _, name := range []string{"b.png", "a.PNG"} {
		os.WriteFile(filepath.Join(dir, name), b.Bytes(), 0o644)
	}
	os.WriteFile(filepath.Join(dir, "notes.txt"), nil, 0o644)
	floats := func(b []byte) (out []float32) {
		for i := 0; i < len(b); i += 4 {
			out = append(out, math.Float32frombits(binary.NativeEndian.Uint32(b[i:])))
		}
		return out
	}
	near := func(a []float32, want ...float64) bool {
		return slices.EqualFunc(a, want, func(x float32, y float64) bool { return math.Abs(float64(x)-y) < 1e-4 })
	}
	sets, err := ReadSets(dir, []models.Tensor{tensor("x", ort.Float, 1, 3, 1, 2)}, Normalization{Mean: []float64{.5, 0, 0}, Std: []float64{.5, 2, 1}})
	if err != nil || len(sets) != 2 || !near(floats(sets[0][0]), 1, 1, .1, .1, 0, 0) {
		t.Errorf("%v %v", sets, err)
	}
	sets, err = ReadSets(dir, []models.Tensor{tensor("x", ort.Uint8, 1, 2, 1, 3)}, Normalization{})
	if err != nil || !bytes.Equal(sets[0][0], []byte{255, 51, 0, 255, 51, 0}) {
		t.Errorf("%v %v", sets, err)
	}
	sets, err = ReadSets(dir, []models.Tensor{tensor("x", ort.Uint8, 1, 1, 1, 2)}, Normalization{})
	if err != nil || !bytes.Equal(sets[0][0], []byte{106, 106}) { // 0.299*255 + 0.587*51
		t.Errorf("%v %v", sets, err)
	}
	if _, err := ReadSets(dir, []models.Tensor{tensor("x", ort.Float, 1, 3, 2, 2)}, Normalization{Std: []float64{0}}); err == nil {
		t.Error("a standard deviation of 0 is accepted")
	}
}

// Whatever a file holds, reading it ends with tensors or an error.
func FuzzArray(f *testing.F) {
	x := tensor("x", ort.Uint8, 1, 4)
	data, _ := EncodeArray(x, counting(4))
	f.Add(data)
	f.Add([]byte("\x93NUMPY\x01\x00\xff\xff{}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if a, err := readArrays(bytes.NewReader(data), x); err == nil {
			for _, d := range a.data {
				if len(d) != 4 {
					t.Errorf("%d bytes", len(d))
				}
			}
		}
	})
}
