package ort

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"unsafe"

	"google.golang.org/protobuf/proto"

	pb "github.com/terastal/terastal/internal/onnxpb"
)

// This file has what lets sessions share a device: memory that the caller allocates, and weights that lie there once.

// Place is a device's memory, of which the caller allocates pieces by himself, such as with CUDA's runtime.
type Place struct {
	memory nativeMemory
	// Device is the number of the device that sessions of the configuration compute on.
	Device int
}

// NewPlace describes the memory of the device that the configuration's sessions compute on.
func NewPlace(c Config) (*Place, error) {
	d, number, err := c.filled().deviceMemory()
	if err != nil {
		return nil, err
	}
	m, err := describeMemory(d.name, number)
	return &Place{m, number}, err
}

// NewTensor makes a tensor of the bytes at data, which have to outlive it. The caller calls Destroy on it.
func (p *Place) NewTensor(t DataType, shape []int64, data unsafe.Pointer) (Value, error) {
	size, err := byteSize(t, shape)
	if err != nil || t.Size() == 0 {
		return nil, fmt.Errorf("tensor of %s and shape %v in device memory cannot be made", t, shape)
	}
	v := &Tensor{typ: t, shape: slices.Clone(shape), away: true}
	if v.value, err = p.memory.view(t, v.shape, data, size); err != nil {
		return nil, fmt.Errorf("tensor of %s and shape %v in device memory: %w", t, shape, err)
	}
	return v, nil
}

// Close frees the description, not the memory.
func (p *Place) Close() {
	if p.memory.info != nil {
		p.memory.close()
		p.memory.info = nil
	}
}

// Optimize is what a session of the configuration makes of a model before it runs it: a model that others open without
// optimising it again, in which initializers have the names that Config.Initializers goes by.
func Optimize(model []byte, c Config) ([]byte, error) {
	dir, err := os.MkdirTemp("", "terastal-optimised-")
	if err != nil {
		return nil, fmt.Errorf("optimising a model: %w", err)
	}
	defer os.RemoveAll(dir)
	c.SaveOptimized, c.Engines, c.Profile, c.Stream, c.Initializers = filepath.Join(dir, "model.onnx"), "", "", nil, nil
	s, err := NewSession(model, nil, nil, c)
	if err != nil {
		return nil, err
	}
	if err := s.Close(); err != nil {
		return nil, err
	}
	return os.ReadFile(c.SaveOptimized)
}

// Initializer is a constant of a model.
type Initializer struct {
	Name  string
	Type  DataType
	Shape []int64
	Data  []byte
}

// Initializers lists the constants of a model that have at least so many bytes, in the model itself.
func Initializers(model []byte, least int) ([]Initializer, error) {
	var m pb.ModelProto
	if err := proto.Unmarshal(model, &m); err != nil {
		return nil, fmt.Errorf("reading a model's weights: %w", err)
	}
	var list []Initializer
	for _, t := range m.GetGraph().GetInitializer() {
		i := Initializer{t.GetName(), DataType(t.GetDataType()), t.GetDims(), t.GetRawData()}
		if size, err := byteSize(i.Type, i.Shape); err == nil && size == len(i.Data) && size >= least && i.Type.Size() > 0 {
			list = append(list, i)
		}
	}
	return list, nil
}

// tf32Override is how NVIDIA's libraries are told to compute float32 exactly.
const tf32Override = "NVIDIA_TF32_OVERRIDE"

// workspaceConfig is how cuBLAS is told what memory to set aside for each of its handles, of which every session has
// one. By itself it takes 64 MB on a large GPU; workspace is 8 MB, which is enough for products that are split up.
const (
	workspaceConfig = "CUBLAS_WORKSPACE_CONFIG"
	workspace       = ":4096:2:16:8"
)

// lowerPrecision are the options by which a user asks TensorRT for less than float32.
var lowerPrecision = []string{"trt_fp16_enable", "trt_bf16_enable", "trt_int8_enable"}

// environment sets what NVIDIA's libraries read from the environment when they are loaded, where the user has not:
// TensorRT has no option for computing float32 exactly, and cuBLAS none for its memory.
func (c Config) environment() {
	if c.Library != "" || c.Provider != "cuda" && c.Provider != "tensorrt" {
		return
	}
	setUnlessSet(workspaceConfig, workspace)
	if c.Provider == "tensorrt" && !slices.ContainsFunc(lowerPrecision, func(key string) bool {
		return !slices.Contains([]string{"", "0", "false", "False"}, c.Options[key])
	}) {
		setUnlessSet(tf32Override, "0")
	}
}

func setUnlessSet(key, value string) {
	if _, set := os.LookupEnv(key); !set {
		os.Setenv(key, value)
	}
}
