package models

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"

	pb "github.com/terastal/terastal/internal/onnxpb"
)

// Options says how to read a model.
type Options struct {
	// Dims gives symbolic dimensions of the inputs ("batch", "sequence") their value. Symbolic dimensions that are not
	// named here are 1, the usual batch size of real-time inference. Naming one that the model does not have is an error.
	Dims map[string]int64
}

// Model is a checked ONNX model with every input shape fixed. It is safe for concurrent use.
type Model struct {
	name    string
	source  string // what errors call it: the path, or the name given to Parse
	sha     string
	inputs  []Tensor
	assumed []string // symbolic dimensions that nobody gave a size
	outputs []Tensor
	whole   *document // the model as given, dimensions bound
	graph   *document // as simplified by ONNX Runtime, nodes in execution order
	tensors map[string]Tensor
	fixed   map[string]bool // tensors whose shape does not depend on the input's values
	params  int64
	macs    int64
}

// Name is the file's base name without .onnx, or the name given to Parse.
func (m *Model) Name() string { return m.name }

// SHA256 identifies the model: the hex SHA-256 of its file, followed by its
// external data where there is any. Bound dimensions are not part of it.
func (m *Model) SHA256() string { return m.sha }

// Inputs are the tensors a request must bring, in the model's order. Inputs
// that the file also stores a value for are constants, not inputs.
func (m *Model) Inputs() []Tensor { return slices.Clone(m.inputs) }

// Outputs are the model's results, in its order, with the shapes that ONNX Runtime produced for the bound input shapes.
func (m *Model) Outputs() []Tensor { return slices.Clone(m.outputs) }

// Parameters counts the stored weights: all constant tensors of the file except integer shapes and indices (INT64),
// booleans and strings, and the running statistics of BatchNormalization, as published counts do.
func (m *Model) Parameters() int64 { return m.params }

// MACs counts the multiply-accumulates of one inference in Conv, ConvTranspose, Gemm, MatMul and their integer forms,
// from the real shapes. What runs inside If, Loop and Scan bodies is not counted.
func (m *Model) MACs() int64 { return m.macs }

// ONNX is the whole model as it was read, with its dimensions bound and external data inside: the reference that layers
// are verified against. A model that exceeds the 2 GiB of one protobuf gives an error that matches ErrUnsupported;
// WriteFile writes any.
func (m *Model) ONNX() ([]byte, error) {
	data, err := m.whole.bytes()
	if err != nil {
		return nil, fail(ErrUnsupported, m.source, "%w; WriteFile stores its weights in a second file", err)
	}
	return data, nil
}

// WriteFile writes the whole model, as ONNX gives it, to a file. One that exceeds the 2 GiB of a protobuf gets its
// weights in a second file, called path.data. Both are replaced atomically, the model last.
func (m *Model) WriteFile(path string) error {
	if err := m.whole.writeFile(path, maxProtobufSize); err != nil {
		return fmt.Errorf("model %s: writing %s: %w", m.source, path, err)
	}
	return nil
}

// Load reads an ONNX file and its external data, checks it, binds its dimensions and has ONNX Runtime (which must be
// started) simplify it and tell all shapes. Errors match ErrCorrupt, ErrUnsupported, ErrExternalData, ErrDims,
// ErrRuntime or fs.ErrNotExist.
//
// The weights stay in memory-mapped files, not in the heap: the files given here, which may be replaced but not
// rewritten in place while the model is in use, and one that was unlinked from the folder for temporary files.
func Load(path string, o Options) (*Model, error) {
	name := strings.TrimSuffix(filepath.Base(path), ".onnx")
	file, err := mapModelFile(path)
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("model %s: %w", path, err)
	}
	defer root.Close()
	m, err := parse(path, file.data, []*mapping{file}, root, o)
	if err != nil {
		return nil, err
	}
	m.name = name
	return m, nil
}

func mapModelFile(path string) (m *mapping, err error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = fmt.Errorf("%w; check the path", fs.ErrNotExist)
	case err != nil:
	case !info.Mode().IsRegular():
		err = errors.New("not a file; name the .onnx file itself")
	case info.Size() > maxProtobufSize:
		return nil, fail(ErrUnsupported, path, "the file is larger than 2 GiB, the limit of its format; store the weights "+
			"as external data")
	default:
		var f *os.File
		if f, err = os.Open(path); err == nil {
			m, err = mapFile(f)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("model %s: %w", path, err)
	}
	return m, nil
}

// Parse is Load for a model in memory. External data cannot be resolved and is refused. data is not kept.
func Parse(name string, data []byte, o Options) (*Model, error) {
	if len(data) < mapFrom {
		return parse(name, data, nil, nil, o)
	}
	file, err := mapCopy(data)
	if err != nil {
		return nil, fmt.Errorf("model %s: %w", name, err)
	}
	return parse(name, file.data, []*mapping{file}, nil, o)
}

// parse reads a model from data, which lies in files if there are any.
func parse(name string, data []byte, files []*mapping, folder *os.Root, o Options) (*Model, error) {
	file, err := unmarshal(data, files)
	if err != nil {
		return nil, fail(ErrCorrupt, name, "not an ONNX protobuf (%v)", err)
	}
	if err := check(name, file.ModelProto); err != nil {
		return nil, err
	}
	sum := sha256.New()
	sum.Write(data)
	if err := file.inlineExternal(name, folder, sum); err != nil {
		return nil, err
	}
	file.forget()
	dropStoredInputs(file.ModelProto)
	inputs, assumed, err := bind(name, file.ModelProto, o.Dims)
	if err != nil {
		return nil, err
	}
	m := &Model{
		name:    name,
		source:  name,
		sha:     hex.EncodeToString(sum.Sum(nil)),
		inputs:  inputs,
		assumed: assumed,
		whole:   file,
		params:  parameters(file.GetGraph()),
	}
	if err := m.simplify(); err != nil {
		return nil, err
	}
	if err := m.observe(); err != nil {
		return nil, err
	}
	return m, nil
}

// marshal writes a model so that equal models give equal bytes.
func marshal(m *pb.ModelProto) ([]byte, error) {
	if size := proto.Size(m); size > maxProtobufSize {
		return nil, fmt.Errorf("%d bytes exceed the 2 GiB of one ONNX protobuf", size)
	}
	return proto.MarshalOptions{Deterministic: true}.Marshal(m)
}

// everyTensor are all stored tensors: initialisers and attributes, in subgraphs and functions too.
func everyTensor(m *pb.ModelProto) []*pb.TensorProto {
	list := slices.Clone(m.GetGraph().GetInitializer())
	for _, n := range everyNode(m) {
		for _, a := range n.GetAttribute() {
			list = append(list, tensorsOf(a)...)
		}
		for _, g := range n.Subgraphs() {
			list = append(list, g.GetInitializer()...)
		}
	}
	return list
}

// tensorsOf lists the tensors of an attribute.
func tensorsOf(a *pb.AttributeProto) []*pb.TensorProto {
	if a.GetT() == nil {
		return a.GetTensors()
	}
	return append([]*pb.TensorProto{a.GetT()}, a.GetTensors()...)
}

// inlineExternal maps the external tensor data in folder, and makes each tensor's part of it the tensor's own.
func (d *document) inlineExternal(name string, folder *os.Root, sum io.Writer) error {
	files := make(map[string]*externalFile)
	for _, t := range everyTensor(d.ModelProto) {
		if t.GetDataLocation() != pb.TensorProto_EXTERNAL {
			continue
		}
		what := "tensor " + quote(t.GetName())
		if folder == nil {
			return fail(ErrExternalData, name, "%s lies in another file, which a model in memory cannot have", what)
		}
		bits, _ := elementBits(t.GetDataType())
		if bits == 0 {
			return fail(ErrUnsupported, name, "%s: external data holds strings", what)
		}
		n, _ := elements(t.GetDims())
		data, err := readExternal(folder, files, t, packedBytes(n, bits))
		if err != nil {
			return fail(ErrExternalData, name, "%s: %w", what, err)
		}
		sum.Write(data)
		t.RawData, t.ExternalData, t.DataLocation = data, nil, nil
	}
	for _, location := range slices.Sorted(maps.Keys(files)) {
		f := files[location]
		d.files = append(d.files, f.mapping)
		if err := f.overlap(); err != nil {
			return fail(ErrExternalData, name, "file %s: %w", quote(location), err)
		}
	}
	return nil
}

// externalFile is a file of tensor data and the parts of it that tensors use.
type externalFile struct {
	*mapping
	parts []filePart
}

type filePart struct {
	from, to int64
	tensor   string
}

// overlap refuses tensors that share some of their bytes: all or none is
// sound. It bounds what a model can claim to store by the size of its files.
func (f *externalFile) overlap() error {
	slices.SortFunc(f.parts, func(a, b filePart) int {
		return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(a.to, b.to))
	})
	for i, b := range f.parts[min(1, len(f.parts)):] {
		if a := f.parts[i]; b.from < a.to && (a.from != b.from || a.to != b.to) {
			return fmt.Errorf("tensors %s and %s overlap at byte %d", quote(a.tensor), quote(b.tensor), b.from)
		}
	}
	return nil
}

// readExternal finds the want bytes that a tensor's location, offset and length name.
func readExternal(folder *os.Root, files map[string]*externalFile, t *pb.TensorProto, want int64) ([]byte, error) {
	entries := make(map[string]string)
	for _, e := range t.GetExternalData() {
		entries[e.GetKey()] = e.GetValue()
	}
	location := entries["location"]
	if !filepath.IsLocal(location) || strings.Contains(location, `\`) {
		return nil, fmt.Errorf("location %s leads outside the folder", quote(location))
	}
	offset := int64(0)
	for key, into := range map[string]*int64{"offset": &offset, "length": &want} {
		text, given := entries[key]
		if !given {
			continue
		}
		v, err := strconv.ParseInt(text, 10, 64)
		if err != nil || v < 0 || (key == "length" && v != *into) {
			return nil, fmt.Errorf("%s %s in file %s does not fit the shape %v",
				key, quote(text), quote(location), head(t.GetDims()))
		}
		*into = v
	}
	location = filepath.Clean(location)
	f, open := files[location]
	if !open {
		file, err := folder.Open(location)
		if err != nil {
			return nil, fmt.Errorf("file %s: %w", quote(location), err)
		}
		m, err := mapFile(file)
		if err != nil {
			return nil, err
		}
		f = &externalFile{mapping: m}
		files[location] = f
	}
	if have := int64(len(f.data)); have-offset < want {
		return nil, fmt.Errorf("file %s has %d bytes, bytes %d to %d are needed", quote(location), have, offset, offset+want)
	}
	if want == 0 {
		return nil, nil
	}
	f.parts = append(f.parts, filePart{offset, offset + want, t.GetName()})
	return f.data[offset : offset+want : offset+want], nil
}

// dropStoredInputs turns inputs with a stored default into constants, so that ONNX Runtime may fold them. Files before
// IR 4 had to list every weight as an input; without the list they must call themselves IR 4.
func dropStoredInputs(m *pb.ModelProto) {
	g := m.GetGraph()
	stored := nameSet(g.GetInitializer())
	g.Input = slices.DeleteFunc(g.Input, func(v *pb.ValueInfoProto) bool { return stored[v.GetName()] })
	if m.GetIrVersion() < 4 {
		m.IrVersion = proto.Int64(4)
	}
}

// bind fixes every dimension of the inputs and returns them, and the symbolic
// dimensions that became 1 because dims does not name them.
func bind(name string, m *pb.ModelProto, dims map[string]int64) ([]Tensor, []string, error) {
	g := m.GetGraph()
	bound := make(map[string]int64)
	var inputs []Tensor
	for _, v := range g.GetInput() {
		in, err := bindInput(name, v, dims, bound)
		if err != nil {
			return nil, nil, err
		}
		inputs = append(inputs, in)
	}
	for d := range dims {
		if _, has := bound[d]; !has {
			return nil, nil, fail(ErrDims, name, "no input has a dimension called %s; there are %q",
				quote(d), slices.Sorted(maps.Keys(bound)))
		}
	}
	// What outputs and inner values declare in terms of the same names follows.
	for _, list := range [][]*pb.ValueInfoProto{g.GetOutput(), g.GetValueInfo()} {
		for _, v := range list {
			for _, d := range v.GetType().GetTensorType().GetShape().GetDim() {
				if n, ok := bound[d.GetDimParam()]; ok && d.GetDimParam() != "" {
					d.Value = &pb.TensorShapeProto_Dimension_DimValue{DimValue: n}
				}
			}
		}
	}
	var assumed []string
	for _, d := range slices.Sorted(maps.Keys(bound)) {
		if _, given := dims[d]; !given {
			assumed = append(assumed, d)
		}
	}
	return inputs, assumed, nil
}

func bindInput(model string, v *pb.ValueInfoProto, dims, bound map[string]int64) (Tensor, error) {
	what := "input " + quote(v.GetName())
	tensor := v.GetType().GetTensorType()
	switch {
	case tensor == nil:
		return Tensor{}, fail(ErrUnsupported, model, "%s is not a tensor; sequences, maps and optionals cannot be moved "+
			"between layers", what)
	case tensor.GetElemType() == int32(pb.TensorProto_STRING):
		return Tensor{}, fail(ErrUnsupported, model, "%s holds strings, which accelerators cannot exchange; move the text "+
			"processing out of the model", what)
	case tensor.GetShape() == nil:
		return Tensor{}, fail(ErrUnsupported, model, "%s declares no shape; export the model with one", what)
	}
	bits, ok := elementBits(tensor.GetElemType())
	if !ok || bits < 8 {
		return Tensor{}, fail(ErrUnsupported, model, "%s has element type %d, which cannot be an input",
			what, tensor.GetElemType())
	}
	in := Tensor{Name: v.GetName(), Type: DataType(tensor.GetElemType()), Shape: []int64{}}
	for i, d := range tensor.GetShape().GetDim() {
		var n int64
		switch x := d.GetValue().(type) {
		case *pb.TensorShapeProto_Dimension_DimValue:
			n = x.DimValue
		case *pb.TensorShapeProto_Dimension_DimParam:
			n = 1
			if given, ok := dims[x.DimParam]; ok {
				n = given
			}
			bound[x.DimParam] = n
		default:
			n = 1
		}
		if n < 0 {
			return Tensor{}, fail(ErrCorrupt, model, "%s: dimension %d is %d", what, i, n)
		}
		in.Shape = append(in.Shape, n)
		d.Value = &pb.TensorShapeProto_Dimension_DimValue{DimValue: n}
	}
	n, ok := elements(in.Shape)
	if !ok || n > maxTensorBytes*8/bits {
		return Tensor{}, fail(ErrUnsupported, model, "%s has shape %v, more than %d GiB; bind smaller dimensions",
			what, head(in.Shape), maxTensorBytes>>30)
	}
	return in, nil
}
