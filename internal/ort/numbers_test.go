package ort

import "testing"

// Both directions share memory, also where there is none.
func TestNumbers(t *testing.T) {
	v := []float32{1, -2}
	data := Data(v)
	if len(data) != 8 || data[3] != 0x3f || data[7] != 0xc0 {
		t.Errorf("1 and -2 are % x", data)
	}
	back := Numbers[float32](data[:7])
	if len(back) != 1 || &back[0] != &v[0] {
		t.Errorf("%v come back", back)
	}
	back[0] = 3
	if v[0] != 3 {
		t.Errorf("writing goes to a copy: %v", v)
	}
	if len(Numbers[int64](nil)) != 0 || len(Data([]uint16{})) != 0 {
		t.Error("nothing becomes something")
	}
}
