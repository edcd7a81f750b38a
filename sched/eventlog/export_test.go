package eventlog

import (
	"encoding/csv"
	"errors"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/sched"
)

func TestJobsCSVByHand(t *testing.T) {
	l := handMade()
	l.Header.Policy = "a, b" // is quoted
	var b strings.Builder
	measured := requeuing()
	measured.Header.System.Models[0].Accuracy = []float64{0.75}
	testkit.OK(t, WriteJobsCSV(&b, l, measured))
	want := `run,policy,driver,model,request,release_ns,noticed_ns,deadline_ns,outcome,reason,end_ns,response_ms,layers,failed_attempts,variants,accelerators,accuracy
1,"a, b",simulated,one,1,0,1000000,4000000,late,,5000000,5,1,0,,x,1
1,"a, b",simulated,two,0,0,0,20000000,met,,9000000,9,2,0,conv:d2s,y x,
1,"a, b",simulated,one,2,4000000,8000000,8000000,dropped,deadline passed,9000000,,0,0,,,
1,"a, b",simulated,two,3,10000000,10000000,30000000,failed,lost,13000000,,1,1,conv:d2s,y,
1,"a, b",simulated,one,4,16000000,16000000,20000000,met,,20000000,4,1,0,,x,1
2,terastal,simulated,two,0,0,0,20000000,met,,10000000,10,2,1,conv:d2s,y,0.75
`
	want = strings.Replace(want, "deadline passed", sched.DropReasonLate, 1)
	testkit.Equal(t, want, b.String())
}

func TestLayersCSVByHand(t *testing.T) {
	l := requeuing()
	l.Header.System.Models[0].Layers[1].Handoff = [][]time.Duration{{0, 1500}, {2500, 0}}
	moved := handMade()
	moved.Header.System.Models[0].Layers[1].Handoff = [][]time.Duration{{0, 1500}, {2500, 0}}
	moved.Records = moved.Records[:8]
	moved.Records = append(moved.Records, handMade().Records[9])
	var b strings.Builder
	testkit.OK(t, WriteLayersCSV(&b, l, moved))
	want := `run,policy,driver,model,request,layer_index,layer,implementation,accelerator,from,reason,outcome,dispatch_ns,start_ns,end_ns,predicted_us,measured_us,predicted_handoff_us
1,terastal,simulated,two,0,0,conv,original,x,,meets-budget,requeued,0,,3000000,2000,,0
1,terastal,simulated,two,0,0,conv,d2s,y,,meets-budget,completed,5000000,6000000,9000000,3000,3000,0
1,terastal,simulated,two,0,1,fc,original,y,y,meets-budget,completed,9000000,9000000,10000000,1000,1000,0
2,terastal,simulated,one,1,0,conv,original,x,,meets-budget,completed,1000000,1000000,5000000,4000,4000,0
2,terastal,simulated,two,0,0,conv,d2s,y,,meets-budget,completed,0,2000000,6000000,3000,4000,0
2,terastal,simulated,two,0,1,fc,original,x,y,meets-budget,completed,6000000,7000000,9000000,1000,2000,2.5
`
	testkit.Equal(t, want, b.String())
}

// TestCSVOfARun: the rows are as many as the metrics count, and as wide as the columns.
func TestCSVOfARun(t *testing.T) {
	l := simulated(t, "terastal", sched.DropLate, time.Second)
	m := l.Metrics()
	runs := 0
	for _, r := range l.Records {
		if r.Kind == sched.Completed {
			runs++
		}
	}
	var jobs, layers strings.Builder
	testkit.OK(t, errors.Join(WriteJobsCSV(&jobs, l), WriteLayersCSV(&layers, l)))
	for _, c := range []struct {
		text string
		rows int
	}{{jobs.String(), m.Released}, {layers.String(), runs}} {
		rows, err := csv.NewReader(strings.NewReader(c.text)).ReadAll() // refuses rows of another width
		if err != nil || len(rows) != c.rows+1 {
			t.Errorf("%d rows, want %d and the columns: %v", len(rows), c.rows, err)
		}
	}
	testkit.Fails(t, WriteJobsCSV(&failing{100}, l), "disk full")
	testkit.Fails(t, WriteLayersCSV(&failing{100}, l), "disk full")
}

func TestBenchByHand(t *testing.T) {
	l := handMade()
	l.Header.Machine = Machine{OS: "linux", Arch: "amd64", CPU: "some  cpu", ORT: "1.29.0"}
	m := &l.Header.System.Models[0]
	m.Accuracy, m.Floor = []float64{0.75}, 0.5
	empty := handMade()
	empty.Header.Machine = l.Header.Machine
	empty.Records = nil
	var b strings.Builder
	testkit.OK(t, WriteBench(&b, l, empty))
	want := `Unit miss-rate better=lower
Unit p50-ns better=lower
Unit p90-ns better=lower
Unit p99-ns better=lower
Unit accuracy better=higher
Unit worst-window-accuracy better=higher
Unit mean-miss-rate better=lower
Unit release-lag-p99-ns better=lower
driver: simulated
goos: linux
goarch: amd64
cpu: some cpu
onnxruntime: 1.29.0

BenchmarkModel/model=two/policy=terastal-1 2 0.5 miss-rate 9e+06 p50-ns 9e+06 p90-ns 9e+06 p99-ns 0.75 accuracy 0.75 worst-window-accuracy
BenchmarkModel/model=one/policy=terastal-1 3 0.6666666666666667 miss-rate 4e+06 p50-ns 5e+06 p90-ns 5e+06 p99-ns 1 accuracy
BenchmarkPolicy/policy=terastal-1 5 0.5833333333333334 mean-miss-rate 4e+06 release-lag-p99-ns
BenchmarkAccelerator/acc=x/policy=terastal-1 5 0.5 utilization
BenchmarkAccelerator/acc=y/policy=terastal-1 5 0.3 utilization
`
	testkit.Equal(t, want, b.String())
	testkit.Fails(t, WriteBench(&failing{10}, l), "disk full")
}

// TestFormatsAreDocumented: docs/FORMATS.md names every field of a record, every column, unit and kind.
func TestFormatsAreDocumented(t *testing.T) {
	text := testkit.Must(os.ReadFile("../../docs/FORMATS.md"))(t)
	names := slices.Concat(jobColumns, layerColumns,
		[]string{catRequest, catDispatch, catFailed, catInside, catMiss, catDeadline, catService, catSearch})
	for f := range reflect.TypeFor[recordJSON]().Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		names = append(names, name)
	}
	for _, u := range benchUnits {
		names = append(names, u.unit)
	}
	for k := sched.Released; k <= sched.Requeued; k++ {
		names = append(names, k.String())
	}
	for _, name := range names {
		if !strings.Contains(string(text), "`"+name+"`") {
			t.Errorf("docs/FORMATS.md does not name %q", name)
		}
	}
}
