package dense

import (
	"reflect"
	"slices"
	"testing"

	"gorgonia.org/tensor"

	"github.com/terastal/terastal/internal/ort"
	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/models"
)

// types are all that cross the bridge.
var types = map[models.DataType]tensor.Dtype{
	ort.Float: tensor.Float32, ort.Double: tensor.Float64, ort.Float16: tensor.Uint16, ort.BFloat16: tensor.Uint16,
	ort.Int8: tensor.Int8, ort.Int16: tensor.Int16, ort.Int32: tensor.Int32, ort.Int64: tensor.Int64,
	ort.Bool:      tensor.Bool,
	ort.Complex64: tensor.Complex64, ort.Complex128: tensor.Complex128, ort.Float8E5M2: tensor.Uint8,
	ort.Uint8: tensor.Uint8, ort.Uint16: tensor.Uint16, ort.Uint32: tensor.Uint32, ort.Uint64: tensor.Uint64,
}

// What is written on either side is read on the other, in every type and shape.
func TestSharesMemory(t *testing.T) {
	for kind, want := range types {
		for _, shape := range [][]int64{
			{}, {1}, {5}, {1, 4}, {4, 1}, {2, 3}, {1, 2, 1, 3}, {1, 1, 1, 1}, {2, 1, 1, 2, 1, 1, 3, 1, 1},
		} {
			info := models.Tensor{Name: "x", Type: kind, Shape: shape}
			data := make([]byte, info.Bytes())
			d, err := Of(info, data)
			if err != nil {
				t.Fatalf("%v: %v", info, err)
			}
			if err := Fits(d, info); err != nil || d.Dtype() != want {
				t.Errorf("%v: %v, made of %v", info, err, d.Dtype())
			}
			back, err := Bytes(d)
			if err != nil || &back[0] != &data[0] || len(back) != len(data) {
				t.Errorf("%v: %d other bytes come back: %v", info, len(back), err)
			}
			at := int(info.Elements()) - 1
			data[at*kind.Size()] = 1
			if reflect.ValueOf(d.Get(at)).IsZero() {
				t.Errorf("%v: what is written to the data is not in the tensor", info)
			}
			d.Set(at, reflect.Zero(want.Type).Interface())
			if data[at*kind.Size()] != 0 {
				t.Errorf("%v: what is written to the tensor is not in the data", info)
			}
		}
	}
}

func vector(t *testing.T, shape ...int64) *tensor.Dense {
	t.Helper()
	info := models.Tensor{Name: "x", Type: ort.Float, Shape: shape}
	d := testkit.Must(Of(info, make([]byte, info.Bytes())))(t)
	for i, v := 0, d.Float32s(); i < len(v); i++ {
		v[i] = float32(i)
	}
	return d
}

// A slice of the batch is the part of the data; what does not lie row by row is refused until it is copied.
func TestViews(t *testing.T) {
	d := vector(t, 2, 3, 4)
	batch := testkit.Must(d.Slice(tensor.S(1)))(t)
	if b, err := Bytes(batch.(*tensor.Dense)); err != nil || len(b) != 48 || &b[0] != &d.Raw[48] {
		t.Errorf("%d bytes of the second of a batch: %v", len(b), err)
	}
	one := testkit.Must(d.Slice(tensor.S(1), tensor.S(2), tensor.S(3)))(t)
	if b, err := Bytes(one.(*tensor.Dense)); err != nil || &b[0] != &d.Raw[92] {
		t.Errorf("the last element: %v", err)
	}
	rows := testkit.Must(d.Slice(nil, tensor.S(1)))(t)
	testkit.Refused(Bytes(rows.(*tensor.Dense)))(t, "Materialize")
	if b, err := Bytes(rows.Materialize().(*tensor.Dense)); err != nil || len(b) != 32 {
		t.Errorf("its copy: %d bytes, %v", len(b), err)
	}
	testkit.OK(t, d.T(2, 0, 1))
	if _, err := Bytes(d); err == nil {
		t.Error("a transposed view was taken for the data")
	}
	testkit.OK(t, d.Transpose())
	if _, err := Bytes(d); err != nil || d.Float32s()[1] != 4 || d.Float32s()[6] != 1 {
		t.Errorf("transposed: %v, %v", d.Float32s(), err)
	}
	columns := tensor.New(tensor.WithShape(2, 3), tensor.Of(tensor.Float32), tensor.AsFortran(nil))
	if _, err := Bytes(columns); err == nil {
		t.Error("columns were taken for rows")
	}
	masked := tensor.New(tensor.WithShape(2), tensor.WithBacking([]float32{1, 2}, []bool{true, false}))
	if _, err := Bytes(masked); err == nil {
		t.Error("a masked tensor was taken for data")
	}
}

func TestRefused(t *testing.T) {
	x := func(kind models.DataType, shape ...int64) models.Tensor {
		return models.Tensor{Name: "x", Type: kind, Shape: shape}
	}
	blocked := x(ort.Float, 1, 8, 2, 2)
	blocked.Block = 8
	for _, c := range map[string]struct {
		t    models.Tensor
		data []byte
		want string
	}{
		"text":       {x(ort.String, 1), nil, "elements of string"},
		"half bytes": {x(ort.Int4, 2), make([]byte, 1), "elements of int4"},
		"blocked":    {blocked, make([]byte, 128), "models.Reorder"},
		"odd":        {x(ort.Float, 1), make([]byte, 5), "5 bytes of data"},
		"wraps":      {x(ort.Uint8, 1<<32, 1<<32, 4), make([]byte, 4), "4 bytes of data"},
		"too few":    {x(ort.Float, 2), make([]byte, 4), "4 bytes of data do not make it"},
		"too many":   {x(ort.Float, 2, 2), make([]byte, 20), "20 bytes of data do not make it"},
		"none":       {x(ort.Float, 0, 2), nil, "at least one element"},
		"not at 4":   {x(ort.Float, 1), make([]byte, 8)[1:5], "aligned to 4 bytes"},
		"maybe":      {x(ort.Bool, 2), []byte{1, 2}, "neither 0 nor 1"},
	} {
		testkit.Refused(Of(c.t, c.data))(t, c.want)
	}
	d := vector(t, 1, 2)
	for what, info := range map[string]models.Tensor{
		"type": x(ort.Int32, 1, 2), "size": x(ort.Float, 1, 3), "rank": x(ort.Float, 2), "text": x(ort.String, 1, 2),
	} {
		if err := Fits(d, info); err == nil {
			t.Errorf("another %s fits", what)
		}
	}
}

// A model's inputs go there and back, and only all of them.
func TestAll(t *testing.T) {
	infos := []models.Tensor{
		{Name: "a", Type: ort.Float, Shape: []int64{2}}, {Name: "b", Type: ort.Uint8, Shape: []int64{1}},
	}
	data := [][]byte{make([]byte, 8), {7}}
	all := testkit.Must(All(infos, data))(t)
	if back, err := Data(all, infos); err != nil || &back[0][0] != &data[0][0] || &back[1][0] != &data[1][0] {
		t.Errorf("%v come back: %v", back, err)
	}
	testkit.Refused(Data(all[:1], infos))(t, "1 tensors are given, 2 are wanted")
	slices.Reverse(all)
	testkit.Refused(Data(all, infos))(t, "a float32[2] is needed, uint8[1] is given")
	if _, err := All(infos, [][]byte{data[0], {7, 7}}); err == nil {
		t.Error("too many bytes became a tensor")
	}
}

// Whatever a tensor says and its data are, the bridge gives an error or shares exactly those bytes.
func FuzzOf(f *testing.F) {
	f.Add(int32(ort.Float), int64(2), int64(3), make([]byte, 24))
	f.Add(int32(ort.Bool), int64(1), int64(1), []byte{3})
	f.Add(int32(ort.Int64), int64(-1), int64(-1), make([]byte, 8))
	f.Add(int32(ort.BFloat16), int64(0), int64(1<<62), []byte{})
	f.Fuzz(func(t *testing.T, kind int32, rows, columns int64, data []byte) {
		info := models.Tensor{Name: "x", Type: models.DataType(kind), Shape: []int64{rows, columns}}
		d, err := Of(info, data)
		if err != nil {
			return
		}
		back, err := Bytes(d)
		if err != nil || len(back) != len(data) || &back[0] != &data[0] || Fits(d, info) != nil {
			t.Errorf("%v of %d bytes: %d come back, %v, %v", info, len(data), len(back), err, Fits(d, info))
		}
	})
}
