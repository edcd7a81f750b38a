package models

import (
	"bufio"
	"cmp"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"unsafe"

	"github.com/google/renameio/v2"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	pb "github.com/terastal/terastal/internal/onnxpb"
	"github.com/terastal/terastal/internal/ort"
)

const (
	mapFrom      = 1 << 20  // models of this many bytes keep their weights in mapped files
	externalFrom = 1 << 10  // tensors of this many bytes may lie in a data file
	inMemory     = 64 << 20 // larger models are loaded through files, which ONNX Runtime maps
	page         = 4096     // alignment in data files, so that they can be mapped in parts
)

// document is a parsed model whose larger tensors lie in mapped files, not in
// the heap. Whoever reads them has to keep the document, or files, alive.
type document struct {
	*pb.ModelProto
	files []*mapping
}

// unmarshal parses a model; large initialisers are parts of data if it is mapped.
func unmarshal(data []byte, files []*mapping) (*document, error) {
	d := &document{ModelProto: new(pb.ModelProto), files: files}
	if len(files) == 0 {
		return d, proto.Unmarshal(data, d.ModelProto)
	}
	return d, unmarshalInPlace(data, d.ModelProto)
}

// with is a model of another graph, made of parts of this one's.
func (d *document) with(g *pb.GraphProto) *document {
	return &document{
		ModelProto: &pb.ModelProto{
			IrVersion: d.IrVersion, OpsetImport: d.GetOpsetImport(), Functions: d.GetFunctions(), Graph: g,
		},
		files: d.files,
	}
}

// Field numbers of the ONNX schema.
const (
	fieldGraph       = 7 // of ModelProto
	fieldInitializer = 5 // of GraphProto
	fieldRawData     = 9 // of TensorProto
)

// unmarshalInPlace is proto.Unmarshal, except that the raw data of large initialisers is not copied.
func unmarshalInPlace(data []byte, m *pb.ModelProto) error {
	var graphs []byte
	has := false
	var tensors []*pb.TensorProto
	rest, err := without(data, fieldGraph, func(graph []byte) (bool, error) {
		nodes, err := without(graph, fieldInitializer, func(tensor []byte) (bool, error) {
			t := new(pb.TensorProto)
			var raw []byte
			fields, err := without(tensor, fieldRawData, func(data []byte) (bool, error) {
				raw = nil
				if len(data) < externalFrom {
					return false, nil
				}
				raw = data[:len(data):len(data)]
				return true, nil
			})
			if err != nil {
				return false, err
			}
			if err := proto.Unmarshal(fields, t); err != nil {
				return false, err
			}
			if raw != nil {
				t.RawData = raw
			}
			tensors = append(tensors, t)
			return true, nil
		})
		has, graphs = true, append(graphs, nodes...)
		return true, err
	})
	if err != nil {
		return err
	}
	if err := proto.Unmarshal(rest, m); err != nil || !has {
		return err
	}
	m.Graph = new(pb.GraphProto)
	if err := proto.Unmarshal(graphs, m.Graph); err != nil {
		return err
	}
	m.Graph.Initializer = tensors
	return nil
}

// without returns the fields of a message except those with the given number that take accepts.
func without(message []byte, number protowire.Number, take func([]byte) (bool, error)) ([]byte, error) {
	var rest []byte
	for len(message) > 0 {
		n, kind, head := protowire.ConsumeTag(message)
		if head < 0 {
			return nil, protowire.ParseError(head)
		}
		size := protowire.ConsumeFieldValue(n, kind, message[head:])
		if size < 0 {
			return nil, protowire.ParseError(size)
		}
		taken := false
		if n == number && kind == protowire.BytesType {
			value, _ := protowire.ConsumeBytes(message[head:])
			var err error
			if taken, err = take(value); err != nil {
				return nil, err
			}
		}
		if !taken {
			rest = append(rest, message[:head+size]...)
		}
		message = message[head+size:]
	}
	return rest, nil
}

// size is how many bytes the model takes as one protobuf.
func (d *document) size() int64 { return int64(proto.Size(d.ModelProto)) }

// bytes is the model as one protobuf; equal models give equal bytes.
func (d *document) bytes() ([]byte, error) {
	defer d.forget()
	if err := d.unchanged(); err != nil {
		return nil, err
	}
	return marshal(d.ModelProto)
}

// forget is called when the weights have been read; until then it keeps them.
func (d *document) forget() {
	if d.size() > inMemory {
		for _, f := range d.files {
			f.forget()
		}
	}
	runtime.KeepAlive(d)
}

func (d *document) unchanged() error {
	for _, f := range d.files {
		if err := f.unchanged(); err != nil {
			return err
		}
	}
	return nil
}

// Session opens the whole model, not in layers, in ONNX Runtime.
func (m *Model) Session(c ort.Config) (*ort.Session, error) {
	return m.whole.session(inMemory, names(m.inputs), names(m.outputs), c)
}

// session opens the model in ONNX Runtime: from memory if it has most bytes or fewer, else through files.
func (d *document) session(most int64, inputs, outputs []string, c ort.Config) (*ort.Session, error) {
	if d.size() <= most {
		data, err := d.bytes()
		if err != nil {
			return nil, err
		}
		return ort.NewSession(data, inputs, outputs, c)
	}
	folder, err := os.MkdirTemp("", "terastal-session-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(folder) // ONNX Runtime has read or mapped the files by then
	path := filepath.Join(folder, "model.onnx")
	weights, err := os.Create(path + dataSuffix)
	if err != nil {
		return nil, err
	}
	defer weights.Close()
	model, err := d.withoutWeights(filepath.Base(weights.Name()), weights)
	if err == nil {
		err = os.WriteFile(path, model, 0o600)
	}
	if err != nil {
		return nil, fmt.Errorf("a copy of the model: %w", err)
	}
	return ort.NewSessionFromFile(path, inputs, outputs, c)
}

// external is the model as a protobuf whose larger initialisers are written to a data file.
func (d *document) external(to *dataFile) ([]byte, error) {
	defer d.forget()
	if err := d.unchanged(); err != nil {
		return nil, err
	}
	g := d.GetGraph()
	outer := d.with(&pb.GraphProto{
		Name: g.Name, Node: g.GetNode(), Input: g.GetInput(), Output: g.GetOutput(), ValueInfo: g.GetValueInfo(),
	})
	for _, t := range g.GetInitializer() {
		if len(t.GetRawData()) >= externalFrom {
			at, err := to.place(t.GetRawData())
			if err != nil {
				return nil, err
			}
			t = &pb.TensorProto{
				Name: t.Name, DataType: t.DataType, Dims: t.GetDims(), DataLocation: pb.TensorProto_EXTERNAL.Enum(),
				ExternalData: []*pb.StringStringEntryProto{
					{Key: proto.String("location"), Value: &to.location},
					{Key: proto.String("offset"), Value: proto.String(strconv.FormatInt(at, 10))},
					{Key: proto.String("length"), Value: proto.String(strconv.Itoa(len(t.GetRawData())))},
				},
			}
		}
		outer.Graph.Initializer = append(outer.Graph.Initializer, t)
	}
	return marshal(outer.ModelProto)
}

// withoutWeights is external with a data file for this model alone.
func (d *document) withoutWeights(location string, weights io.Writer) ([]byte, error) {
	to := newDataFile(location, weights, sameMemory)
	model, err := d.external(to)
	return model, cmp.Or(err, to.flush())
}

// writeFile writes the model to a file, with its weights in a second one if it exceeds most bytes.
func (d *document) writeFile(path string, most int64) error {
	if d.size() <= most {
		data, err := d.bytes()
		if err != nil {
			return err
		}
		return renameio.WriteFile(path, data, 0o644)
	}
	weights, err := renameio.NewPendingFile(path+dataSuffix, renameio.WithPermissions(0o644))
	if err != nil {
		return err
	}
	defer weights.Cleanup()
	model, err := d.withoutWeights(filepath.Base(path)+dataSuffix, weights)
	if err != nil {
		return err
	}
	if err := weights.CloseAtomicallyReplace(); err != nil {
		return err
	}
	return renameio.WriteFile(path, model, 0o644)
}

const dataSuffix = ".data"

// dataFile is a model's tensor data, each different tensor once.
type dataFile struct {
	location string // file name that models refer to
	out      *bufio.Writer
	size     int64
	same     func([]byte) any // equal for tensors that are stored once
	offsets  map[any]int64
}

func newDataFile(location string, w io.Writer, same func([]byte) any) *dataFile {
	return &dataFile{location: location, out: bufio.NewWriter(w), same: same, offsets: make(map[any]int64)}
}

// sameContent and sameMemory tell when two tensors are one.
func sameContent(data []byte) any { return sha256.Sum256(data) }

func sameMemory(data []byte) any {
	return [2]uintptr{uintptr(unsafe.Pointer(unsafe.SliceData(data))), uintptr(len(data))}
}

// place returns the offset of the data in the file, where it is written unless it is there.
func (f *dataFile) place(data []byte) (int64, error) {
	key := f.same(data)
	if at, has := f.offsets[key]; has {
		return at, nil
	}
	padding := -f.size & (page - 1)
	if _, err := f.out.Write(make([]byte, padding)); err != nil {
		return 0, err
	}
	if _, err := f.out.Write(data); err != nil {
		return 0, err
	}
	at := f.size + padding
	f.offsets[key], f.size = at, at+int64(len(data))
	return at, nil
}

func (f *dataFile) flush() error { return f.out.Flush() }

// savesExternal tells whether ONNX Runtime writes the model with its weights in another file, without a copy of all in
// memory. Its release 1.29 then stores initialisers of subgraphs twice, so models that have any do it only if they
// must.
func (d *document) savesExternal() bool {
	if d.size() <= inMemory {
		return false
	}
	flat := !slices.ContainsFunc(d.GetGraph().GetNode(), func(n *pb.NodeProto) bool { return len(n.Subgraphs()) > 0 })
	return flat || d.size() > maxProtobufSize-inMemory
}

// optimise has ONNX Runtime's CPU provider rewrite a model at a level.
func (m *Model) optimise(d *document, level string) (*document, error) {
	folder, err := os.MkdirTemp("", "terastal-optimise-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(folder)
	file := filepath.Join(folder, "optimised.onnx")
	c := ort.Config{Provider: "CPU", Optimization: level, Threads: 1, SaveOptimized: file}
	if d.savesExternal() {
		c.Options = map[string]string{
			"session.optimized_model_external_initializers_file_name":         "weights.bin",
			"session.optimized_model_external_initializers_min_size_in_bytes": strconv.Itoa(externalFrom),
		}
	}
	session, err := d.session(inMemory, nil, nil, c)
	if err != nil {
		return nil, fail(ErrRuntime, m.source, "%w", err)
	}
	session.Close()
	saved, err := mapModelFile(file)
	if err != nil {
		return nil, fail(ErrRuntime, m.source, "the optimised model cannot be read: %w", err)
	}
	out, err := unmarshal(saved.data, []*mapping{saved})
	if err != nil {
		return nil, fail(ErrRuntime, m.source, "the optimised model cannot be parsed: %w", err)
	}
	root, err := os.OpenRoot(folder)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	if err := out.inlineExternal(m.source+" (optimised)", root, io.Discard); err != nil {
		return nil, err
	}
	for _, t := range out.GetGraph().GetInitializer() {
		if t.GetDocString() == "" { // so that both ways of saving give the same bytes
			t.DocString = nil
		}
	}
	return out, nil
}
