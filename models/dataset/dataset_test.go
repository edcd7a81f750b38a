package dataset_test

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"image"
	"image/color"
	"image/png"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/terastal/terastal/internal/glyphs"
	pb "github.com/terastal/terastal/internal/onnxpb"
	"github.com/terastal/terastal/internal/ort/orttest"
	"github.com/terastal/terastal/models"
	"github.com/terastal/terastal/models/dataset"
)

// model is one that takes an input of this type and shape.
func model(t testing.TB, kind int32, dims ...int64) *models.Model {
	t.Helper()
	orttest.Start(t)
	shape := &pb.TensorShapeProto{}
	for _, d := range dims {
		shape.Dim = append(shape.Dim, &pb.TensorShapeProto_Dimension{Value: &pb.TensorShapeProto_Dimension_DimValue{DimValue: d}})
	}
	value := func(name string) *pb.ValueInfoProto {
		return &pb.ValueInfoProto{Name: proto.String(name), Type: &pb.TypeProto{Value: &pb.TypeProto_TensorType{TensorType: &pb.TypeProto_Tensor{ElemType: proto.Int32(kind), Shape: shape}}}}
	}
	data, err := proto.Marshal(&pb.ModelProto{IrVersion: proto.Int64(8), OpsetImport: []*pb.OperatorSetIdProto{{Version: proto.Int64(17)}},
		Graph: &pb.GraphProto{Name: proto.String("g"), Input: []*pb.ValueInfoProto{value("x")}, Output: []*pb.ValueInfoProto{value("y")},
			Node: []*pb.NodeProto{{OpType: proto.String("Identity"), Input: []string{"x"}, Output: []string{"y"}}}}})
	if err != nil {
		t.Fatal(err)
	}
	m, err := models.Parse("m", data, models.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func floats(raw []byte) (out []float32) {
	for at := 0; at < len(raw); at += 4 {
		out = append(out, math.Float32frombits(binary.NativeEndian.Uint32(raw[at:])))
	}
	return out
}

func write(t testing.TB, dir, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func npy(descr, shape string, data []byte) []byte {
	header := fmt.Sprintf("{'descr': '%s', 'fortran_order': False, 'shape': (%s), }\n", descr, shape)
	out := append([]byte("\x93NUMPY\x01\x00"), byte(len(header)), 0)
	return append(append(out, header...), data...)
}

func first(t *testing.T, s *dataset.Set, i int) []float32 {
	t.Helper()
	in, err := s.Inputs(i)
	if err != nil {
		t.Fatal(err)
	}
	return floats(in[0])
}

func TestFolderOfImages(t *testing.T) {
	dir := t.TempDir()
	img := image.NewRGBA(image.Rect(0, 0, 4, 2)) // twice as wide as the input
	for x := range 4 {
		for y := range 2 {
			img.Set(x, y, color.RGBA{R: 10, G: 20, B: 30, A: 255})
		}
	}
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		t.Fatal(err)
	}
	write(t, dir, "a.png", b.Bytes())
	write(t, dir, "b.png", b.Bytes())
	write(t, dir, "notes.txt", nil)
	labels := write(t, dir, "labels.csv", []byte("file,class\na.png,7\nb.png,3\na.png,1\n"))
	m := model(t, 1, 1, 3, 2, 2)
	s, err := dataset.Open(dataset.Spec{Source: dir, Labels: labels, First: 1, Pixels: dataset.Pixels{Range: 255, Mean: []float64{10, 10, 10}, Std: []float64{10, 5, 2}, BGR: true}}, m)
	if err != nil {
		t.Fatal(err)
	}
	if s.Len() != 2 || s.Label(0) != 3 || s.Label(1) != 1 || !s.Labelled() {
		t.Errorf("%d with labels %d, %d", s.Len(), s.Label(0), s.Label(1))
	}
	want := []float32{2, 2, 2, 2, 2, 2, 2, 2, 0, 0, 0, 0} // (30-10)/10, (20-10)/5, (10-10)/2
	if got := first(t, s, 0); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
	all, err := dataset.Open(dataset.Spec{Source: dir, Pixels: dataset.Pixels{Range: 255}}, model(t, 1, 1, 2, 2, 3))
	if err != nil {
		t.Fatal(err)
	}
	if got := first(t, all, 1); all.Len() != 2 || all.Labelled() || fmt.Sprint(got[:6]) != "[10 20 30 10 20 30]" {
		t.Errorf("%d, %v", all.Len(), got)
	}
	// From 0 to 1 unless said otherwise; bytes stay bytes, grey is luminance.
	one, err := dataset.Open(dataset.Spec{Source: dir, Pixels: dataset.Pixels{Mean: []float64{0, 20. / 255, 0}, Std: []float64{2, 1, 1}}}, m)
	if err != nil {
		t.Fatal(err)
	}
	if got := first(t, one, 0); !near(got[0], 10./255/2) || !near(got[4], 0) || !near(got[8], 30./255) {
		t.Errorf("from 0 to 1: %v", got)
	}
	for channels, want := range map[int64]string{3: "[10 20 30]", 1: "[18]"} { // (299*10 + 587*20 + 114*30) / 1000
		s, err := dataset.Open(dataset.Spec{Source: dir}, model(t, 2, 1, channels, 1, 1))
		if err != nil {
			t.Fatal(err)
		}
		if in, err := s.Inputs(0); err != nil || fmt.Sprint(in[0]) != want {
			t.Errorf("%d channels of bytes: %v %v, want %s", channels, in, err, want)
		}
	}
}

func near(a float32, b float64) bool { return math.Abs(float64(a)-b) < 1e-6 }

// TestHugeImage: a file of a few bytes can say that it is huge.
func TestHugeImage(t *testing.T) {
	var b bytes.Buffer
	if err := png.Encode(&b, image.NewGray(image.Rect(0, 0, 1, 1))); err != nil {
		t.Fatal(err)
	}
	data := b.Bytes()
	binary.BigEndian.PutUint32(data[16:], 1<<20) // the header's width, height and checksum
	binary.BigEndian.PutUint32(data[20:], 1<<20)
	binary.BigEndian.PutUint32(data[29:], crc32.ChecksumIEEE(data[12:29]))
	dir := t.TempDir()
	write(t, dir, "a.png", data)
	if _, err := dataset.Open(dataset.Spec{Source: dir}, model(t, 1, 1, 1, 2, 2)); err == nil || !strings.Contains(err.Error(), "too many") {
		t.Errorf("%v", err)
	}
}

// TestSeveralInputs: a .npz file holds an array for each, by name.
func TestSeveralInputs(t *testing.T) {
	dir := t.TempDir()
	archive := func(name string, arrays map[string][]byte) string {
		var b bytes.Buffer
		z := zip.NewWriter(&b)
		for n, data := range arrays {
			w, _ := z.Create(n + ".npy")
			w.Write(data)
		}
		z.Close()
		return write(t, dir, name, b.Bytes())
	}
	x, y := npy("|u1", "2, 1, 3", []byte{1, 2, 3, 4, 5, 6}), npy("|u1", "2, 2", []byte{7, 8, 9, 10})
	m := models2(t)
	s, err := dataset.Open(dataset.Spec{Source: archive("both.npz", map[string][]byte{"x": x, "y": y})}, m)
	if err != nil {
		t.Fatal(err)
	}
	if in, err := s.Inputs(1); err != nil || fmt.Sprint(in) != "[[4 5 6] [9 10]]" || s.Len() != 2 || s.Labelled() { // y is an input here
		t.Errorf("%v %v, %d labelled %v", in, err, s.Len(), s.Labelled())
	}
	for name, c := range map[string]struct {
		source, want string
	}{
		"one missing":   {archive("one.npz", map[string][]byte{"x": x}), `no array "y"`},
		"uneven":        {archive("uneven.npz", map[string][]byte{"x": x, "y": npy("|u1", "3, 2", make([]byte, 6))}), "as many for each"},
		"one array":     {write(t, dir, "x.npy", x), "use a .npz file"},
		"an IDX file":   {write(t, dir, "x-idx", nil), "gives one input"},
		"images":        {t.TempDir(), "use a .npz file"},
		"another shape": {archive("s.npz", map[string][]byte{"x": npy("|u1", "2, 1, 4", make([]byte, 8)), "y": y}), "the model takes"},
	} {
		if _, err := dataset.Open(dataset.Spec{Source: c.source}, m); !errors.Is(err, dataset.ErrInvalid) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// models2 takes x, uint8[1 3], and y, uint8[1 2].
func models2(t *testing.T) *models.Model {
	t.Helper()
	orttest.Start(t)
	value := func(name string, n int64) *pb.ValueInfoProto {
		shape := &pb.TensorShapeProto{}
		for _, d := range []int64{1, n} {
			shape.Dim = append(shape.Dim, &pb.TensorShapeProto_Dimension{Value: &pb.TensorShapeProto_Dimension_DimValue{DimValue: d}})
		}
		return &pb.ValueInfoProto{Name: proto.String(name), Type: &pb.TypeProto{Value: &pb.TypeProto_TensorType{TensorType: &pb.TypeProto_Tensor{ElemType: proto.Int32(2), Shape: shape}}}}
	}
	data, err := proto.Marshal(&pb.ModelProto{IrVersion: proto.Int64(8), OpsetImport: []*pb.OperatorSetIdProto{{Version: proto.Int64(17)}},
		Graph: &pb.GraphProto{Name: proto.String("g"), Input: []*pb.ValueInfoProto{value("x", 3), value("y", 2)}, Output: []*pb.ValueInfoProto{value("z", 5)},
			Node: []*pb.NodeProto{{OpType: proto.String("Concat"), Input: []string{"x", "y"}, Output: []string{"z"},
				Attribute: []*pb.AttributeProto{{Name: proto.String("axis"), Type: pb.AttributeProto_INT.Enum(), I: proto.Int64(1)}}}}}})
	if err != nil {
		t.Fatal(err)
	}
	m, err := models.Parse("m", data, models.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestArraysAndIDX(t *testing.T) {
	dir := t.TempDir()
	m := model(t, 1, 1, 1, 1, 2)
	var values []byte
	for _, x := range []float32{1, 2, 3, 4, 5, 6} {
		values = binary.LittleEndian.AppendUint32(values, math.Float32bits(x))
	}
	x, y := npy("<f4", "3, 1, 2", values), npy("<i8", "3,", binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, 4), 0), 2))
	var archive bytes.Buffer
	z := zip.NewWriter(&archive)
	for name, data := range map[string][]byte{"x.npy": x, "y.npy": y, "other.npy": nil} {
		w, _ := z.Create(name)
		w.Write(data)
	}
	z.Close()
	idx := func(data []byte, dims ...uint32) []byte {
		out := []byte{0, 0, 8, byte(len(dims))}
		for _, d := range dims {
			out = binary.BigEndian.AppendUint32(out, d)
		}
		return append(out, data...)
	}
	var packed bytes.Buffer
	g := gzip.NewWriter(&packed)
	g.Write(idx([]byte{1, 2, 3, 4, 5, 6}, 3, 1, 2))
	g.Close()
	for name, o := range map[string]dataset.Spec{
		"npy": {Source: write(t, dir, "x.npy", x), Labels: write(t, dir, "y.npy", y)},
		"npz": {Source: write(t, dir, "a.npz", archive.Bytes())},
		"idx": {Source: write(t, dir, "images-idx3-ubyte.gz", packed.Bytes()), Pixels: dataset.Pixels{Range: 255}, Labels: write(t, dir, "labels-idx1-ubyte", idx([]byte{4, 0, 2}, 3))},
	} {
		s, err := dataset.Open(o, m)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := first(t, s, 2); s.Len() != 3 || s.Label(0) != 4 || s.Label(2) != 2 || got[0] != 5 || got[1] != 6 {
			t.Errorf("%s: %d, labels %d, %d, %v", name, s.Len(), s.Label(0), s.Label(2), got)
		}
	}
	for name, c := range map[string]struct {
		o    dataset.Spec
		want string
	}{
		"another shape":        {dataset.Spec{Source: write(t, dir, "s.npy", npy("<f4", "2, 3", values))}, "the model takes"},
		"another type":         {dataset.Spec{Source: write(t, dir, "t.npy", npy("<f8", "1, 2", make([]byte, 16)))}, "holds float64"},
		"short":                {dataset.Spec{Source: write(t, dir, "h.npy", x[:len(x)-1])}, "bytes"},
		"short labels":         {dataset.Spec{Source: filepath.Join(dir, "x.npy"), Labels: write(t, dir, "l.npy", npy("<i8", "1,", make([]byte, 8)))}, "1 labels for 3"},
		"labels that are real": {dataset.Spec{Source: filepath.Join(dir, "x.npy"), Labels: filepath.Join(dir, "x.npy")}, "whole numbers"},
		"negative labels":      {dataset.Spec{Source: filepath.Join(dir, "x.npy"), Labels: write(t, dir, "n.npy", npy("|i1", "3,", []byte{0, 255, 0}))}, "label 1 is -1"},
		"no npy":               {dataset.Spec{Source: write(t, dir, "z.npy", []byte("hello"))}, "no .npy file"},
		"no zip":               {dataset.Spec{Source: write(t, dir, "z.npz", []byte("hello"))}, ".npz"},
		"no IDX":               {dataset.Spec{Source: write(t, dir, "z-idx", []byte("hello"))}, "no IDX file"},
		"a cut IDX":            {dataset.Spec{Source: write(t, dir, "c-idx", idx([]byte{1}, 2, 2))}, "header says 4"},
		"unknown":              {dataset.Spec{Source: write(t, dir, "z.bin", nil)}, "none of glyphs"},
		"too many":             {dataset.Spec{Source: filepath.Join(dir, "x.npy"), Count: 4}, "there are 3"},
		"too far":              {dataset.Spec{Source: filepath.Join(dir, "x.npy"), First: 3}, "there are 3"},
		"glyphs for it":        {dataset.Spec{Source: "glyphs:test"}, "glyphs are"},
		"no such glyphs":       {dataset.Spec{Source: "glyphs:x"}, "train, calibration or test"},
		"std 0":                {dataset.Spec{Source: dir, Pixels: dataset.Pixels{Std: []float64{0}}}, "std is 0"},
		"means":                {dataset.Spec{Source: dir, Pixels: dataset.Pixels{Mean: []float64{1, 2}}}, "2 values for 1 channels"},
		"a range":              {dataset.Spec{Source: dir, Pixels: dataset.Pixels{Range: 2}}, "1 or 255"},
		"an empty folder":      {dataset.Spec{Source: t.TempDir()}, "nothing is there"},
	} {
		if _, err := dataset.Open(c.o, m); !errors.Is(err, dataset.ErrInvalid) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	if _, err := dataset.Open(dataset.Spec{Source: filepath.Join(dir, "nope.npy")}, m); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
	bad := write(t, dir, "bad.csv", []byte("a.png,1\nb.png,x\n"))
	if _, err := dataset.Open(dataset.Spec{Source: dir, Labels: bad}, m); err == nil || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("a label that is no number: %v", err)
	}
	up := write(t, dir, "up.csv", []byte("../a.png,1\n"))
	if _, err := dataset.Open(dataset.Spec{Source: dir, Labels: up}, m); err == nil || !strings.Contains(err.Error(), "outside") {
		t.Errorf("a file outside: %v", err)
	}
}

func TestGlyphsAndRandom(t *testing.T) {
	m := model(t, 1, 1, 1, glyphs.Size, glyphs.Size)
	s, err := dataset.Open(dataset.Spec{Source: "glyphs:test", First: 5, Count: 3}, m)
	if err != nil {
		t.Fatal(err)
	}
	pixels, label := glyphs.Image(glyphs.Test, 7)
	if got := first(t, s, 2); s.Len() != 3 || s.Label(2) != label || fmt.Sprint(got) != fmt.Sprint(glyphs.Tensor(pixels)) {
		t.Errorf("%d, label %d, want %d", s.Len(), s.Label(2), label)
	}
	r, err := dataset.Open(dataset.Spec{Source: "random", Count: 2}, m)
	if err != nil || r.Labelled() {
		t.Fatal(r.Labelled(), err)
	}
	if a, b := first(t, r, 0), first(t, r, 1); fmt.Sprint(a) == fmt.Sprint(b) {
		t.Error("random inputs repeat")
	}
}
