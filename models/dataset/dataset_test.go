package dataset_test

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"image"
	"image/color"
	"image/png"
	"io/fs"
	"math"
	"path/filepath"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/terastal/terastal/internal/glyphs"
	pb "github.com/terastal/terastal/internal/onnxpb"
	"github.com/terastal/terastal/internal/ort"
	"github.com/terastal/terastal/internal/ort/orttest"
	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/models"
	"github.com/terastal/terastal/models/dataset"
)

func TestMain(m *testing.M) { orttest.Main(m) }

// model is one that takes an input of this type and shape.
func model(t testing.TB, kind int32, dims ...int64) *models.Model {
	t.Helper()
	return parse(t, pb.NewNode("Identity", []string{"x"}, []string{"z"}), pb.NewValue("x", kind, dims...))
}

// parse makes a model of one operator.
func parse(t testing.TB, n *pb.NodeProto, inputs ...*pb.ValueInfoProto) *models.Model {
	t.Helper()
	orttest.Start(t)
	data := testkit.Must(proto.Marshal(pb.NewModel(&pb.GraphProto{
		Name: proto.String("g"), Node: []*pb.NodeProto{n}, Input: inputs,
		Output: []*pb.ValueInfoProto{{Name: proto.String("z")}},
	}, 17)))(t)
	return testkit.Must(models.Parse("m", data, models.Options{}))(t)
}

func write(t testing.TB, dir, name string, data []byte) string {
	t.Helper()
	return testkit.Write(t, filepath.Join(dir, name), data)
}

func idx(data []byte, dims ...uint32) []byte {
	out := []byte{0, 0, 8, byte(len(dims))}
	for _, d := range dims {
		out = binary.BigEndian.AppendUint32(out, d)
	}
	return append(out, data...)
}

func npy(descr, shape string, data []byte) []byte {
	header := fmt.Sprintf("{'descr': '%s', 'fortran_order': False, 'shape': (%s), }\n", descr, shape)
	out := append([]byte("\x93NUMPY\x01\x00"), byte(len(header)), 0)
	return append(append(out, header...), data...)
}

func first(t *testing.T, s *dataset.Set, i int) []float32 {
	t.Helper()
	in := testkit.Must(s.Inputs(i))(t)
	return in[0].Float32s()
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
	testkit.OK(t, png.Encode(&b, img))
	write(t, dir, "a.png", b.Bytes())
	write(t, dir, "b.png", b.Bytes())
	write(t, dir, "notes.txt", nil)
	labels := write(t, dir, "labels.csv", []byte("file,class\na.png,7\nb.png,3\na.png,1\n"))
	m := model(t, 1, 1, 3, 2, 2)
	pixels := dataset.Pixels{Range: 255, Mean: []float64{10, 10, 10}, Std: []float64{10, 5, 2}, BGR: true}
	s := testkit.Must(dataset.Open(dataset.Spec{Source: dir, Labels: labels, First: 1, Pixels: pixels}, m))(t)
	if s.Len() != 2 || s.Label(0) != 3 || s.Label(1) != 1 || !s.Labelled() {
		t.Errorf("%d with labels %d, %d", s.Len(), s.Label(0), s.Label(1))
	}
	want := []float32{2, 2, 2, 2, 2, 2, 2, 2, 0, 0, 0, 0} // (30-10)/10, (20-10)/5, (10-10)/2
	if got := first(t, s, 0); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
	pixels = dataset.Pixels{Range: 255, Mean: []float64{1, 2, 3}}
	all := testkit.Must(dataset.Open(dataset.Spec{Source: dir, Pixels: pixels}, model(t, 1, 1, 2, 2, 3)))(t)
	if got := first(t, all, 1); all.Len() != 2 || all.Labelled() || fmt.Sprint(got[:6]) != "[9 18 27 9 18 27]" {
		t.Errorf("%d, %v", all.Len(), got)
	}
	// From 0 to 1 unless said otherwise; bytes stay bytes, grey is luminance.
	pixels = dataset.Pixels{Mean: []float64{0, 20. / 255, 0}, Std: []float64{2, 1, 1}}
	one := testkit.Must(dataset.Open(dataset.Spec{Source: dir, Pixels: pixels}, m))(t)
	if got := first(t, one, 0); !near(got[0], 10./255/2) || !near(got[4], 0) || !near(got[8], 30./255) {
		t.Errorf("from 0 to 1: %v", got)
	}
	for channels, want := range map[int64]string{3: "[10 20 30]", 1: "[18]"} { // (299*10 + 587*20 + 114*30) / 1000
		s := testkit.Must(dataset.Open(dataset.Spec{Source: dir}, model(t, 2, 1, channels, 1, 1)))(t)
		if in, err := s.Inputs(0); err != nil || fmt.Sprint(in[0].Uint8s()) != want {
			t.Errorf("%d channels of bytes: %v %v, want %s", channels, in, err, want)
		}
	}
}

// TestLayouts: every pixel reaches its place, from images and from arrays.
func TestLayouts(t *testing.T) {
	dir := t.TempDir()
	img := image.NewRGBA(image.Rect(0, 0, 3, 2))
	var hwc, chw []byte
	for i := range 18 {
		x, y, c := i/3%3, i/9, i%3
		img.Pix[img.PixOffset(x, y)+c], img.Pix[img.PixOffset(x, y)+3] = byte(10*i), 255
		hwc, chw = append(hwc, byte(10*i)), append(chw, byte(10*(i%6*3+i/6)))
	}
	var b bytes.Buffer
	testkit.OK(t, png.Encode(&b, img))
	write(t, dir, "a.png", b.Bytes())
	for shape, c := range map[string]struct {
		dims  []int64
		want  []byte
		array string
	}{"channels first": {[]int64{1, 3, 2, 3}, chw, "3, 2, 3"}, "channels last": {[]int64{1, 2, 3, 3}, hwc, "2, 3, 3"}} {
		array := write(t, dir, "a.npy", npy("|u1", c.array, c.want))
		for name, source := range map[string]string{"image": dir, "array": array} {
			for _, kind := range []int32{1, 2} {
				s, err := dataset.Open(dataset.Spec{Source: source, Pixels: dataset.Pixels{Range: 255}}, model(t, kind, c.dims...))
				testkit.OK(t, err)
				in := testkit.Must(s.Inputs(0))(t)
				if got := fmt.Sprint(in[0].Data()); got != fmt.Sprint(c.want) {
					t.Errorf("%s of type %d, %s: got %v, want %v", name, kind, shape, got, c.want)
				}
			}
		}
	}
}

func near(a float32, b float64) bool { return math.Abs(float64(a)-b) < 1e-6 }

// TestHugeImage: a file of a few bytes can say that it is huge.
func TestHugeImage(t *testing.T) {
	var b bytes.Buffer
	testkit.OK(t, png.Encode(&b, image.NewGray(image.Rect(0, 0, 1, 1))))
	data := b.Bytes()
	binary.BigEndian.PutUint32(data[16:], 1<<20) // the header's width, height and checksum
	binary.BigEndian.PutUint32(data[20:], 1<<20)
	binary.BigEndian.PutUint32(data[29:], crc32.ChecksumIEEE(data[12:29]))
	dir := t.TempDir()
	write(t, dir, "a.png", data)
	testkit.Refused(dataset.Open(dataset.Spec{Source: dir}, model(t, 1, 1, 1, 2, 2)))(t, "too many")
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
	s := testkit.Must(dataset.Open(dataset.Spec{Source: archive("both.npz", map[string][]byte{"x": x, "y": y})}, m))(t)
	in := testkit.Must(s.Inputs(1))(t)
	got := fmt.Sprint(in[0].Uint8s(), in[0].Shape(), in[1].Uint8s(), in[1].Shape())
	if got != "[4 5 6] (1, 3) [9 10] (1, 2)" || s.Len() != 2 || s.Labelled() { // y is an input here
		t.Errorf("%v, %d labelled %v", got, s.Len(), s.Labelled())
	}
	three, wide := npy("|u1", "3, 2", make([]byte, 6)), npy("|u1", "2, 1, 4", make([]byte, 8))
	for _, c := range map[string]struct {
		source, want string
	}{
		"one missing":   {archive("one.npz", map[string][]byte{"x": x}), `no array "y"`},
		"uneven":        {archive("u.npz", map[string][]byte{"x": x, "y": three}), "as many for each"},
		"one array":     {write(t, dir, "x.npy", x), "use a .npz file"},
		"an IDX file":   {write(t, dir, "x-idx", nil), "gives one input"},
		"images":        {t.TempDir(), "use a .npz file"},
		"another shape": {archive("s.npz", map[string][]byte{"x": wide, "y": y}), "the model takes"},
	} {
		testkit.Refused(dataset.Open(dataset.Spec{Source: c.source}, m))(t, dataset.ErrInvalid, c.want)
	}
}

// models2 takes x, uint8[1 3], and y, uint8[1 2].
func models2(t *testing.T) *models.Model {
	t.Helper()
	n := pb.NewNode("Concat", []string{"x", "y"}, []string{"z"}, pb.NewAttribute("axis", 1))
	return parse(t, n, pb.NewValue("x", ort.Uint8, 1, 3), pb.NewValue("y", ort.Uint8, 1, 2))
}

func TestArraysAndIDX(t *testing.T) {
	dir := t.TempDir()
	m := model(t, 1, 1, 1, 1, 2)
	values := ort.Data([]float32{1, 2, 3, 4, 5, 6})
	x, y := npy("<f4", "3, 1, 2", values), npy("<i8", "3,", ort.Data([]int64{4, 0, 2}))
	var archive bytes.Buffer
	z := zip.NewWriter(&archive)
	for name, data := range map[string][]byte{"x.npy": x, "y.npy": y, "other.npy": nil} {
		w, _ := z.Create(name)
		w.Write(data)
	}
	z.Close()
	var packed bytes.Buffer
	g := gzip.NewWriter(&packed)
	g.Write(idx([]byte{1, 2, 3, 4, 5, 6}, 3, 1, 2))
	g.Close()
	for name, o := range map[string]dataset.Spec{
		"npy": {Source: write(t, dir, "x.npy", x), Labels: write(t, dir, "y.npy", y)},
		"npz": {Source: write(t, dir, "a.npz", archive.Bytes())},
		"idx": {Source: write(t, dir, "images-idx3-ubyte.gz", packed.Bytes()), Pixels: dataset.Pixels{Range: 255},
			Labels: write(t, dir, "labels-idx1-ubyte", idx([]byte{4, 0, 2}, 3))},
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
}

func TestUnusable(t *testing.T) {
	dir := t.TempDir()
	m := model(t, 1, 1, 1, 1, 2)
	values := ort.Data([]float32{1, 2, 3, 4, 5, 6})
	x := npy("<f4", "3, 1, 2", values)
	write(t, dir, "x.npy", x)
	file := func(name string, data []byte) dataset.Spec { return dataset.Spec{Source: write(t, dir, name, data)} }
	labelled := func(labels string) dataset.Spec {
		return dataset.Spec{Source: filepath.Join(dir, "x.npy"), Labels: labels}
	}
	for _, c := range map[string]struct {
		o    dataset.Spec
		want string
	}{
		"another shape":        {file("s.npy", npy("<f4", "2, 3", values)), "the model takes"},
		"another type":         {file("t.npy", npy("<f8", "1, 2", make([]byte, 16))), "holds float64"},
		"short":                {file("h.npy", x[:len(x)-1]), "bytes"},
		"short labels":         {labelled(write(t, dir, "l.npy", npy("<i8", "1,", make([]byte, 8)))), "1 labels for 3"},
		"labels that are real": {labelled(filepath.Join(dir, "x.npy")), "whole numbers"},
		"negative labels":      {labelled(write(t, dir, "n.npy", npy("|i1", "3,", []byte{0, 255, 0}))), "label 1 is -1"},
		"no npy":               {file("z.npy", []byte("hello")), "no .npy file"},
		"no zip":               {file("z.npz", []byte("hello")), ".npz"},
		"no IDX":               {file("z-idx", []byte("hello")), "no IDX file"},
		"a cut IDX":            {file("c-idx", idx([]byte{1}, 2, 2)), "header says 4"},
		"unknown":              {file("z.bin", nil), "none of glyphs"},
		"too many":             {dataset.Spec{Source: filepath.Join(dir, "x.npy"), Count: 4}, "there are 3"},
		"too far":              {dataset.Spec{Source: filepath.Join(dir, "x.npy"), First: 3}, "there are 3"},
		"glyphs for it":        {dataset.Spec{Source: "glyphs:test"}, "glyphs are"},
		"no such glyphs":       {dataset.Spec{Source: "glyphs:x"}, "train, calibration or test"},
		"std 0":                {dataset.Spec{Source: dir, Pixels: dataset.Pixels{Std: []float64{0}}}, "std is 0"},
		"means":                {dataset.Spec{Source: dir, Pixels: dataset.Pixels{Mean: []float64{1, 2}}}, "2 values for 1"},
		"a range":              {dataset.Spec{Source: dir, Pixels: dataset.Pixels{Range: 2}}, "1 or 255"},
		"an empty folder":      {dataset.Spec{Source: t.TempDir()}, "nothing is there"},
	} {
		testkit.Refused(dataset.Open(c.o, m))(t, dataset.ErrInvalid, c.want)
	}
	testkit.Refused(dataset.Open(dataset.Spec{Source: filepath.Join(dir, "nope.npy")}, m))(t, fs.ErrNotExist)
	bad := write(t, dir, "bad.csv", []byte("a.png,1\nb.png,x\n"))
	_, err := dataset.Open(dataset.Spec{Source: dir, Labels: bad}, m)
	testkit.Fails(t, err, "line 2")
	up := write(t, dir, "up.csv", []byte("../a.png,1\n"))
	_, err = dataset.Open(dataset.Spec{Source: dir, Labels: up}, m)
	testkit.Fails(t, err, "outside")
}

func TestGlyphsAndRandom(t *testing.T) {
	m := model(t, 1, 1, 1, glyphs.Size, glyphs.Size)
	s := testkit.Must(dataset.Open(dataset.Spec{Source: "glyphs:test", First: 5, Count: 3}, m))(t)
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
