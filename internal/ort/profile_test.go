package ort

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/terastal/terastal/internal/testkit"
)

// TestProfile: a session that is profiled says what ran when, on our clock, and leaves no file behind.
func TestProfile(t *testing.T) {
	start(t)
	folder := t.TempDir()
	s := open(t, twoByTwo(), nil, nil, Config{Profile: filepath.Join(folder, "p")})
	in := []Value{newTensor(t, Float, []int64{2}, floats(1, 2)), newTensor(t, Float, []int64{2}, floats(3, 4))}
	type span struct{ from, to time.Duration }
	var ours []span
	for range 5 {
		out := []Value{nil, nil}
		from := time.Now()
		testkit.OK(t, s.Run(in, out))
		to := time.Now()
		out[0].Destroy()
		out[1].Destroy()
		ours = append(ours, span{time.Duration(from.UnixNano()), time.Duration(to.UnixNano())})
	}
	p := testkit.Must(s.EndProfiling())(t)
	if len(p.Runs) != len(ours) || len(p.Nodes) < 2*len(ours) || p.Unreadable != 0 || p.Full {
		t.Fatalf("%d runs, %d nodes, %d unreadable", len(p.Runs), len(p.Nodes), p.Unreadable)
	}
	const cut = time.Microsecond // what ONNX Runtime cuts off
	for i, r := range p.Runs {
		if r.Start < ours[i].from-cut || r.Start+r.Length > ours[i].to {
			t.Errorf("run %d was from %v to %v, the profile says %v to %v", i, ours[i].from, ours[i].to, r.Start,
				r.Start+r.Length)
		}
	}
	for _, n := range p.Nodes {
		inside := false
		for _, r := range p.Runs {
			inside = inside || n.Start >= r.Start-cut && n.Start+n.Length <= r.Start+r.Length+cut
		}
		if !inside {
			t.Errorf("node %+v is in no run", n)
		}
		if n.Operator != "Add" && n.Operator != "Mul" || n.Provider != "CPUExecutionProvider" ||
			!strings.Contains(n.Inputs, "float") {
			t.Errorf("node %+v", n)
		}
	}
	if files, _ := os.ReadDir(folder); len(files) != 0 {
		t.Errorf("left behind: %v", files)
	}
	if _, err := s.EndProfiling(); err == nil {
		t.Error("a profile ended twice")
	}
	s.Close()
	if _, err := s.EndProfiling(); err != ErrClosed {
		t.Errorf("after Close: %v", err)
	}
	testkit.Refused(open(t, twoByTwo(), nil, nil, Config{}).EndProfiling())(t, "Config.Profile")
}

const smallProfile = `[
{"cat" : "Session","pid" :1,"tid" :1,"dur" :30,"ts" :100,"ph" : "X","name" :"model_run","args" : {}},
{"cat" : "Node","pid" :1,"tid" :1,"dur" :9,"ts" :105,"ph" : "X","name" :"conv_kernel_time","args" : {"provider" : "CPUExecutionProvider","op_name" : "Conv","input_type_shape" : [{"float":[1,3]}]}},
{"cat" : "Node","pid" :1,"tid" :1,"dur" :9,"ts" :115,"ph" : "X","name" :"a "quoted" name","args" : {}},
{"cat" : "Session","pid" :1,"tid" :1,"dur" :3,"ts" :1,"ph" : "X","name" :"session_initialization","args" : {}}
]
`

func TestReadProfile(t *testing.T) {
	p, err := readProfile(strings.NewReader(smallProfile), time.Second)
	if err != nil || len(p.Runs) != 1 || len(p.Nodes) != 1 || p.Unreadable != 1 {
		t.Fatalf("%+v, %v", p, err)
	}
	n := p.Nodes[0]
	if n.Start != time.Second+105*time.Microsecond || n.Length != 9*time.Microsecond || n.Operator != "Conv" ||
		n.Inputs != `[{"float":[1,3]}]` {
		t.Errorf("%+v", n)
	}
	long := "{" + strings.Repeat("x", 2*maxProfileLine) + "\n" + smallProfile[2:]
	if p, err := readProfile(strings.NewReader(long), 0); err != nil || p.Unreadable != 2 || len(p.Runs) != 1 {
		t.Errorf("with a long line: %+v, %v", p, err)
	}
}

// FuzzReadProfile: whatever a profile's text, its times are usable.
func FuzzReadProfile(f *testing.F) {
	f.Add(smallProfile)
	f.Add(`{"cat":"Node","ts":9223372036854775807,"dur":1,"args":{"op_name":[1]}}`)
	f.Fuzz(func(t *testing.T, text string) {
		p := testkit.Must(readProfile(strings.NewReader(text), time.Hour))(t)
		for _, e := range append(p.Runs, p.Nodes...) {
			if e.Start < time.Hour || e.Length < 0 || e.Start+e.Length < e.Start {
				t.Errorf("%+v", e)
			}
		}
	})
}
