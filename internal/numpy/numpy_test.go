package numpy

import (
	"bytes"
	"slices"
	"strings"
	"testing"
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
	sizes := map[string]int{"float16": 2, "float32": 4, "float64": 8, "bool": 1, "int8": 1, "int16": 2, "int32": 4, "int64": 8,
		"uint8": 1, "uint16": 2, "uint32": 4, "uint64": 8}
	for name, size := range sizes {
		for _, shape := range [][]int64{{}, {5}, {2, 3}, {1, 1, 4}, {0, 7}} {
			n := size
			for _, d := range shape {
				n *= int(d)
			}
			file, err := Encode(name, shape, counting(n))
			if err != nil {
				t.Fatal(err)
			}
			if len(file)%64 != n%64 {
				t.Errorf("%s%v: the data begins at %d, not aligned", name, shape, len(file)-n)
			}
			a, err := Read(bytes.NewReader(file))
			if err != nil || a.Type != name || !slices.Equal(a.Shape, shape) || !bytes.Equal(a.Data, counting(n)) || a.Size() != int64(size) {
				t.Errorf("%s%v: %+v %v", name, shape, a, err)
			}
			if n > 0 {
				if _, err := Read(bytes.NewReader(file[:len(file)-1])); err == nil || !strings.Contains(err.Error(), "ends after") {
					t.Errorf("%s%v cut: %v", name, shape, err)
				}
			}
		}
	}
	if _, err := Encode("bfloat16", []int64{1}, make([]byte, 2)); err == nil {
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
		if _, err := Read(strings.NewReader(c.data)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.40q: %v, want %q", c.data, err, c.want)
		}
	}
}

// Whatever a file holds, reading it ends with an array or an error.
func FuzzRead(f *testing.F) {
	data, _ := Encode("uint8", []int64{1, 4}, counting(4))
	f.Add(data)
	f.Add([]byte("\x93NUMPY\x01\x00\xff\xff{}"))
	f.Add([]byte(file("<f8", "False", "-1, 3")))
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := Read(bytes.NewReader(data))
		if err != nil {
			return
		}
		n := a.Size()
		for _, d := range a.Shape {
			n *= d
		}
		if int64(len(a.Data)) != n {
			t.Errorf("%d bytes of %s%v", len(a.Data), a.Type, a.Shape)
		}
	})
}
