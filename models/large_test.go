package models

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"google.golang.org/protobuf/proto"

	pb "github.com/terastal/terastal/internal/onnxpb"
	"github.com/terastal/terastal/internal/ort"
	"github.com/terastal/terastal/internal/ort/orttest"
	"github.com/terastal/terastal/internal/sequential"
	"github.com/terastal/terastal/internal/testkit"
)

// memory is a figure of /proc in bytes; 0 if it is missing.
func memory(file, field string) int64 {
	text, _ := os.ReadFile(file)
	for line := range strings.Lines(string(text)) {
		var kib int64
		if _, err := fmt.Sscanf(line, field+": %d kB", &kib); err == nil {
			return kib << 10
		}
	}
	return 0
}

// TestModelBeyondTwoGiB: three products with 768 MiB of weights each, nearly all of them holes in a sparse file.
func TestModelBeyondTwoGiB(t *testing.T) {
	if testing.Short() {
		t.Skip("writes and reads several GiB")
	}
	sequential.Skip(t)
	if have := memory("/proc/meminfo", "MemAvailable"); have < 10<<30 {
		t.Skipf("needs 10 GiB of memory, %d MiB are available", have>>20)
	}
	orttest.Start(t)
	const wide, narrow, layers = 1 << 14, 3 << 12, 3
	const bytesEach = wide * narrow * 4
	folder := t.TempDir()
	weights := testkit.Must(os.Create(filepath.Join(folder, "w.bin")))(t)
	defer weights.Close()
	testkit.OK(t, weights.Truncate(layers*bytesEach))
	s := &sketch{}
	value := s.input("x", 1, wide)
	rows, columns := int64(wide), int64(narrow)
	for i := range layers {
		for j := range 64 { // one weight for each of some inputs, on their way to the same outputs
			at := int64(i*bytesEach) + 4*(int64(j)*columns+int64(j))
			testkit.Must(weights.WriteAt(ort.Data([]float32{1.5 + float32(j)/8}), at))(t)
		}
		name := s.external(fmt.Sprint("w", i), "w.bin", int64(i*bytesEach), rows, columns)
		rows, columns = columns, rows
		s.node("MatMul", []string{value, name}, fmt.Sprint("y", i))
		value = fmt.Sprint("y", i)
	}
	s.output(value)
	file := filepath.Join(folder, "large.onnx")
	testkit.Write(t, file, s.bytes(t))
	m := testkit.Must(Load(file, Options{}))(t)
	status := func(field string) int64 { return memory("/proc/self/status", field) >> 20 }
	t.Logf("loaded: %d MiB resident, %d at most, %d of the heap", status("VmRSS"), status("VmHWM"), status("RssAnon"))
	wantOps(t, exact(t, m, "op"), "MatMul", "MatMul", "MatMul")
	t.Logf("verified: %d MiB resident, %d at most", status("VmRSS"), status("VmHWM"))

	testkit.Refused(m.ONNX())(t, ErrUnsupported, "WriteFile")
	g, _ := ParseGranularity("model")
	testkit.Refused(m.Split(g))(t, ErrUnsupported, "layer 0", "2 GiB")
}

// external is a tensor of floats in another file.
func (s *sketch) external(name, location string, offset int64, dims ...int64) string {
	t := pb.NewTensor(name, ort.Float, nil, dims...)
	t.DataLocation = pb.TensorProto_EXTERNAL.Enum()
	for _, e := range [][2]string{{"location", location}, {"offset", fmt.Sprint(offset)}} {
		entry := &pb.StringStringEntryProto{Key: proto.String(e[0]), Value: proto.String(e[1])}
		t.ExternalData = append(t.ExternalData, entry)
	}
	s.g.Initializer = append(s.g.Initializer, t)
	return name
}

// heavy is three products with square weights each and a fourth that shares them.
func heavy(side int64) *sketch {
	s := &sketch{}
	value := s.input("x", 1, side)
	for i := range 4 {
		weights := make([]float32, side*side)
		for j := range weights {
			weights[j] = float32((j*7+i*3)%11)/110 - 0.05
		}
		name := "w0"
		if i < 3 {
			name = s.floats(weights, side, side)
		}
		s.node("MatMul", []string{value, name}, fmt.Sprint("y", i))
		value = fmt.Sprint("y", i)
	}
	s.output(value)
	return s
}

// FuzzParsedInPlace: whether tensors are copied or parts of the mapping, the
// model is the same, and so is whether there is one.
func FuzzParsedInPlace(f *testing.F) {
	data := heavy(18).bytes(f)
	f.Add(data)
	f.Add(append(bytes.Clone(data), data...)) // repeated fields of one message are merged
	f.Add(data[:len(data)-5])
	f.Add(tiny(nil))
	f.Add(tiny(func(m *pb.ModelProto) { m.Graph = nil }))
	f.Add([]byte("not a model"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var copied, inPlace pb.ModelProto
		want, got := proto.Unmarshal(data, &copied), unmarshalInPlace(data, &inPlace)
		if (want == nil) != (got == nil) || want == nil && !proto.Equal(&copied, &inPlace) {
			t.Errorf("got another model, or error %v instead of %v", got, want)
		}
		for _, w := range inPlace.GetGraph().GetInitializer() {
			if raw := w.GetRawData(); len(raw) >= externalFrom && !within(raw, data) {
				t.Errorf("%s was copied", w.GetName())
			}
		}
	})
}

func within(part, whole []byte) bool {
	at := uintptr(unsafe.Pointer(unsafe.SliceData(part))) - uintptr(unsafe.Pointer(unsafe.SliceData(whole)))
	return at < uintptr(len(whole))
}

func TestWriteFileWithDataBesideIt(t *testing.T) {
	orttest.Start(t)
	m := heavy(128).parse(t)
	folder := t.TempDir()
	together, apart := filepath.Join(folder, "together.onnx"), filepath.Join(folder, "apart.onnx")
	testkit.OK(t, m.WriteFile(together))
	testkit.OK(t, m.whole.writeFile(apart, 0))
	if info, err := os.Stat(apart + ".data"); err != nil || info.Size() != 3*64<<10 {
		t.Errorf("data file: %v, %v; want three tensors of 64 KiB", info, err)
	}
	want := testkit.Must(m.ONNX())(t)
	for _, file := range []string{together, apart} {
		again := testkit.Must(Load(file, Options{}))(t)
		got := testkit.Must(again.ONNX())(t)
		if !bytes.Equal(got, want) {
			t.Errorf("%s holds another model", file)
		}
		exact(t, again, "op")
		s := testkit.Must(ort.NewSessionFromFile(file, nil, nil, ort.Config{}))(t)
		s.Close()
	}
}

func TestLargeModelsGoThroughFiles(t *testing.T) {
	orttest.Start(t)
	temporary := t.TempDir()
	t.Setenv("TMPDIR", temporary)
	s := &sketch{}
	const side = 1 << 12
	var pattern []byte
	for i := range 13 {
		pattern = binary.LittleEndian.AppendUint32(pattern, math.Float32bits(float32(i)/1300-0.004))
	}
	weights := bytes.Repeat(pattern, (side*(side+1)+12)/13)
	s.node("MatMul", []string{s.input("x", 1, side), s.raw(weights[:4*side*(side+1)], side, side+1)}, "a")
	s.node("Relu", []string{"a"}, "b")
	s.node("MatMul", []string{"b", s.raw(weights[:4*(side+1)*16], side+1, 16)}, "y")
	s.output("y")
	m := s.parse(t)
	if m.whole.size() <= inMemory || !m.whole.savesExternal() {
		t.Fatalf("%d bytes are too few for this test", m.whole.size())
	}
	for _, d := range []*document{m.whole, m.graph} {
		kept := int64(0)
		for _, w := range d.GetGraph().GetInitializer() {
			for _, f := range d.files {
				if within(w.GetRawData(), f.data) {
					kept += int64(len(w.GetRawData()))
				}
			}
		}
		if kept < inMemory {
			t.Errorf("%d bytes lie in mapped files, want all weights", kept)
		}
	}
	layers := exact(t, m, "op")
	wantOps(t, layers, "MatMul Relu", "MatMul")
	again := s.parse(t)
	if repeated := exact(t, again, "op"); repeated[0].SHA256 != layers[0].SHA256 {
		t.Error("the same model gave another layer")
	}
	if left, _ := filepath.Glob(filepath.Join(temporary, "*")); len(left) > 0 {
		t.Errorf("temporary files are left: %q", left)
	}
}

// TestWeightsOutliveTheModel: layers keep the mapped files that their weights lie in, and nothing else does.
func TestWeightsOutliveTheModel(t *testing.T) {
	orttest.Start(t)
	file := filepath.Join(t.TempDir(), "m.onnx")
	testkit.Write(t, file, heavy(128).bytes(t))
	var weights string // the unlinked file
	mapped := func() bool {
		maps, err := os.ReadFile("/proc/self/maps")
		if err != nil {
			t.Skip(err)
		}
		return strings.Contains(string(maps), weights)
	}
	layer := func() *Layer {
		m := testkit.Must(Load(file, Options{}))(t)
		weights = m.graph.files[0].file.Name()
		return &exact(t, m, "op")[1]
	}()
	for range 3 {
		runtime.GC()
	}
	if !mapped() {
		t.Fatal("weights were unmapped while a layer needs them")
	}
	testkit.Must(layer.ONNX())(t)
	layer = nil
	for range 1000 {
		runtime.GC()
		if !mapped() {
			return
		}
		runtime.Gosched()
	}
	t.Error("weights stay mapped after the last layer is gone")
}

func TestChangedFileIsRefused(t *testing.T) {
	orttest.Start(t)
	file := filepath.Join(t.TempDir(), "m.onnx")
	testkit.Write(t, file, heavy(128).bytes(t))
	m := testkit.Must(Load(file, Options{}))(t)
	if m.whole.files[0].file == nil {
		t.Skip("files are not mapped here")
	}
	testkit.OK(t, os.Truncate(file, 100))
	testkit.Refused(m.ONNX())(t, "m.onnx was changed")
}

func TestOverlappingExternalData(t *testing.T) {
	orttest.Start(t)
	folder := t.TempDir()
	testkit.Write(t, filepath.Join(folder, "w.bin"), make([]byte, 96))
	for offset, says := range map[int64]string{0: "", 64: "has 96 bytes", 32: `"w1" and "w2" overlap at byte 32`} {
		s := &sketch{}
		s.node("Conv", []string{s.input("x", 1, 4, 6, 6), s.external("w1", "w.bin", 0, 4, 4, 1, 1)}, "a")
		s.node("Conv", []string{"a", s.external("w2", "./w.bin", offset, 4, 4, 1, 1)}, "y")
		s.output("y")
		file := filepath.Join(folder, "m.onnx")
		testkit.Write(t, file, s.bytes(t))
		m, err := Load(file, Options{})
		switch {
		case says == "" && err != nil:
			t.Error(err)
		case says == "":
			exact(t, m, "op")
		case !errors.Is(err, ErrExternalData) || !strings.Contains(err.Error(), says):
			t.Errorf("offset %d: got %v", offset, err)
		}
	}
}
