package numpy

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/terastal/terastal/internal/ort"
	"github.com/terastal/terastal/internal/testkit"
)

func counting(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i)
	}
	return b
}

// What is written is read again, for every type and shape.
func TestRoundTrip(t *testing.T) {
	for _, kind := range types {
		for _, shape := range [][]int64{{}, {5}, {2, 3}, {1, 1, 4}, {0, 7}} {
			n := kind.Size()
			for _, d := range shape {
				n *= int(d)
			}
			file := testkit.Must(Encode(kind, shape, counting(n)))(t)
			if len(file)%64 != n%64 {
				t.Errorf("%v%v: the data begins at %d, not aligned", kind, shape, len(file)-n)
			}
			a, err := Read(bytes.NewReader(file))
			if err != nil || a.Type != kind || !slices.Equal(a.Shape, shape) || !bytes.Equal(a.Data, counting(n)) {
				t.Errorf("%v%v: %+v %v", kind, shape, a, err)
			}
			if n > 0 {
				testkit.Refused(Read(bytes.NewReader(file[:len(file)-1])))(t, "ends after")
			}
		}
	}
	if _, err := Encode(ort.BFloat16, []int64{1}, make([]byte, 2)); err == nil {
		t.Error("bfloat16 was written")
	}
}

func file(descr, order, shape string) string {
	header := "{'descr': '" + descr + "', 'fortran_order': " + order + ", 'shape': (" + shape + "), }\n"
	return "\x93NUMPY\x01\x00" + string(rune(len(header))) + "\x00" + header
}

func TestUnusable(t *testing.T) {
	for _, c := range []struct{ data, want string }{
		{"nothing", "is no .npy file"},
		{"", "is no .npy file"},
		{file("<f4", "True", "2, 2") + strings.Repeat("\x00", 16), "Fortran order"},
		{file("<c8", "False", "2,"), "not those of a tensor"},
		{file("<f8", "False", "99999999, 99999999, 99999999"), "more than 4 GiB"},
		{file("<f8", "False", "500000000,"), "ends after 0 of"},
	} {
		testkit.Refused(Read(strings.NewReader(c.data)))(t, c.want)
	}
}

// Whatever a file holds, reading it ends with an array or an error.
func FuzzRead(f *testing.F) {
	data, _ := Encode(ort.Uint8, []int64{1, 4}, counting(4))
	f.Add(data)
	f.Add([]byte("\x93NUMPY\x01\x00\xff\xff{}"))
	f.Add([]byte(file("<f8", "False", "-1, 3")))
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := Read(bytes.NewReader(data))
		if err != nil {
			return
		}
		n := int64(a.Type.Size())
		for _, d := range a.Shape {
			n *= d
		}
		if int64(len(a.Data)) != n {
			t.Errorf("%d bytes of %v%v", len(a.Data), a.Type, a.Shape)
		}
	})
}
