package rig

import (
	"encoding/binary"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/terastal/terastal/internal/onnxpb"
	"github.com/terastal/terastal/models"
	"github.com/terastal/terastal/runtime"
)

// Precise pretends to be an accelerator of a provider that is not here, and computes on the CPU. A unit with CUDA's
// option for TF32 gets the layer's inputs and weights rounded to 10 bits of fraction, which is about what the device
// makes of them. The test closes it.
func Precise(t testing.TB, name, provider string) runtime.Accelerator {
	t.Helper()
	return precise{Accelerators(t, runtime.Spec{Name: name})[0], provider}
}

type precise struct {
	runtime.Accelerator
	provider string
}

// Close is left to the test's end: the accelerator may be opened again.
func (precise) Close() error { return nil }

// Level is that of a provider with layouts of its own.
func (precise) Level() string { return models.Portable }

func (p precise) Prepare(u runtime.Unit) (runtime.Kernel, error) {
	if err := u.Suits(p.provider); err != nil {
		return nil, err
	}
	rounds := u.Options["use_tf32"] == "1"
	u.Provider, u.Options = "", nil
	if !rounds {
		return p.Accelerator.Prepare(u)
	}
	m := new(onnxpb.ModelProto)
	err := proto.Unmarshal(u.ONNX, m)
	if err != nil {
		return nil, err
	}
	for _, t := range m.GetGraph().GetInitializer() {
		if t.GetDataType() == int32(onnxpb.TensorProto_FLOAT) {
			round(t.RawData)
		}
	}
	if u.ONNX, err = proto.Marshal(m); err != nil {
		return nil, err
	}
	k := &rounding{}
	for _, info := range u.Inputs {
		x, err := runtime.NewTensor(info, make([]byte, info.Bytes()))
		if err != nil {
			return nil, err
		}
		k.in = append(k.in, x)
	}
	k.Kernel, err = p.Accelerator.Prepare(u)
	return k, err
}

// rounding is a kernel on rounded inputs.
type rounding struct {
	runtime.Kernel
	in []*runtime.Tensor
}

func (k *rounding) Run(in, out []*runtime.Tensor) error {
	for i, x := range k.in {
		copy(x.Data, in[i].Data)
		if x.Type.String() == "float32" {
			round(x.Data)
		}
	}
	return k.Kernel.Run(k.in, out)
}

func (k *rounding) Close() error {
	for _, x := range k.in {
		x.Close()
	}
	return k.Kernel.Close()
}

// round rounds float32 numbers to 10 bits of fraction, ties to even.
func round(data []byte) {
	for ; len(data) >= 4; data = data[4:] {
		bits := binary.LittleEndian.Uint32(data)
		binary.LittleEndian.PutUint32(data, (bits+0xfff+bits>>13&1)&^0x1fff)
	}
}
