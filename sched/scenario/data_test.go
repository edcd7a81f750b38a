package scenario

import (
	"encoding/csv"
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/terastal/terastal/internal/testkit"
)

var rewrite = flag.Bool("rewrite", false, "write the embedded tables again from the published ones")

const (
	layersComment = `# Layer latencies (cycles at 1 GHz, so ns) and relative energies of the models of published evaluations.
# Shapes and variants: the authors' public layer-variant repository (Apache-2.0), for the models of XRBench its repository.
# Latencies and energies: the public XRBench edition of the MAESTRO cost model.
# A row with a variant and its gamma follows the original layer it can stand in for.
# Made by: go test ./sched/scenario -run EmbeddedData -rewrite
`
	accuracyComment = `# Accuracy of combinations of layer variants, as a share of the original model's: measured, from the authors' public
# layer-variant repository (Apache-2.0). Top-5; VOC mean average precision for mobilenetv2_ssd; delta-1 for sp2dense.
# Made by: go test ./sched/scenario -run EmbeddedData -rewrite
`
)

// published opens the folder of the published tables, or skips the test.
func published(t *testing.T) string {
	shared := os.Getenv("TERASTAL_SHARED")
	if shared == "" {
		shared = "../../../shared"
	}
	dir := filepath.Join(shared, "paper")
	if _, err := os.Stat(filepath.Join(dir, "layer_latency.csv")); err != nil {
		if *rewrite {
			t.Fatalf("set TERASTAL_SHARED to the folder that has paper/layer_latency.csv: %v", err)
		}
		t.Skipf("without the published tables: %v", err)
	}
	return dir
}

// record is a row of a published table by column.
type record map[string]string

func readTable(t *testing.T, path string) []record {
	t.Helper()
	b := testkit.Must(os.ReadFile(path))(t)
	rows, err := csv.NewReader(strings.NewReader(string(b))).ReadAll()
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	var out []record
	for _, row := range rows[1:] {
		r := record{}
		for i, column := range rows[0] {
			r[column] = row[i]
		}
		out = append(out, r)
	}
	return out
}

func (r record) number(t *testing.T, column string) float64 {
	t.Helper()
	x, err := strconv.ParseFloat(r[column], 64)
	if err != nil {
		t.Fatalf("%v: column %s: %v", r, column, err)
	}
	return x
}

// excerpt makes the two embedded tables from the published ones.
func excerpt(t *testing.T) (layers, accuracy string) {
	dir := published(t)
	used := map[string]bool{}
	for _, d := range definitions() {
		for _, task := range d.tasks {
			used[task.model] = true
		}
	}
	// Variants keep their order and are numbered from 1 without those that the
	// published evaluation did not use.
	number, gamma := map[string]int{}, map[string]string{}
	count := map[string]int{}
	for _, r := range readTable(t, filepath.Join(dir, "variant_layers.csv")) {
		if r["in_paper_subset"] == "1" {
			count[r["model"]]++
			number[r["model"]+" "+r["variant_idx"]] = count[r["model"]]
			gamma[r["model"]+" "+r["variant_idx"]] = r["gamma_r"]
		}
	}
	return excerptLayers(t, dir, used, number, gamma), excerptAccuracy(t, dir, used, number)
}

func excerptLayers(t *testing.T, dir string, used map[string]bool, number map[string]int,
	gamma map[string]string) string {
	type row struct {
		model          string
		layer, variant int
		cells          []string
	}
	var rows []*row
	at := map[string]*row{}
	both := slices.Concat(readTable(t, filepath.Join(dir, "layer_latency.csv")),
		readTable(t, filepath.Join(dir, "xrbench_stock_models_latency.csv")))
	for _, r := range both {
		model, variant := r["model"], 0
		if r["variant"] == "1" {
			variant = number[model+" "+r["variant_idx"]]
			if variant == 0 {
				continue
			}
		}
		if !used[model] {
			continue
		}
		key := fmt.Sprint(model, " ", r["layer_idx"], " ", variant)
		x := at[key]
		if x == nil {
			index := r.number(t, "layer_idx")
			x = &row{model, int(index), variant, make([]string, len(layerColumns))}
			x.cells[0], x.cells[1] = model, r["layer"]
			if variant > 0 {
				x.cells[2], x.cells[3] = strconv.Itoa(variant), gamma[model+" "+r["variant_idx"]]
			}
			at[key] = x
			rows = append(rows, x)
		}
		k := slices.Index(kinds[:], r["dataflow"]+r["pes"])
		if k < 0 || x.cells[4+k] != "" {
			t.Fatalf("unexpected row %v", r)
		}
		ns := r.number(t, "us_at_1GHz") * 1000
		if math.Abs(ns-math.Round(ns)) > 1e-3 || math.Round(ns) != r.number(t, "cycles") {
			t.Fatalf("not whole cycles: %v", r)
		}
		x.cells[4+k] = strconv.FormatInt(int64(math.Round(ns)), 10)
		if variant == 0 {
			x.cells[4+len(kinds)+k] = strconv.FormatFloat(r.number(t, "energy_rel"), 'f', -1, 64)
		}
	}
	slices.SortStableFunc(rows, func(a, b *row) int {
		if a.model != b.model {
			return strings.Compare(a.model, b.model)
		}
		if a.layer != b.layer {
			return a.layer - b.layer
		}
		return a.variant - b.variant
	})
	var b strings.Builder
	b.WriteString(layersComment + strings.Join(layerColumns, ",") + "\n")
	for _, x := range rows {
		if slices.Contains(x.cells[4:4+len(kinds)], "") {
			t.Fatalf("no latency on some accelerator: %v", x.cells)
		}
		b.WriteString(strings.Join(x.cells, ",") + "\n")
	}
	return b.String()
}

func excerptAccuracy(t *testing.T, dir string, used map[string]bool, number map[string]int) string {
	var b strings.Builder
	b.WriteString(accuracyComment + strings.Join(accuracyColumns, ",") + "\n")
	for _, r := range readTable(t, filepath.Join(dir, "variant_accuracy.csv")) {
		share := r.number(t, "accuracy") / r.number(t, "baseline_accuracy")
		valid := r["valid_at_0.9"] == "1"
		if n := r.number(t, "normalized"); math.Abs(n-share) > 1e-3 || (n >= DefaultTheta) != valid ||
			(share >= DefaultTheta) != valid {
			t.Errorf("the row contradicts itself: %v", r)
		}
		if r["is_paper_metric"] != "1" || r["in_paper_subset"] != "1" || !used[r["model"]] {
			continue
		}
		if r["combination"] == "baseline" {
			if share != 1 {
				t.Errorf("baseline accuracy differs from itself: %v", r)
			}
			continue
		}
		var set []string
		for name := range strings.SplitSeq(r["combination"], "+") {
			v := number[r["model"]+" "+strings.TrimPrefix(name, "idx")]
			if v == 0 {
				t.Fatalf("a variant outside of the published subset: %v", r)
			}
			set = append(set, strconv.Itoa(v))
		}
		fmt.Fprintf(&b, "%s,%s,%s\n", r["model"], strings.Join(set, "+"), r["normalized"])
	}
	return b.String()
}

func TestEmbeddedData(t *testing.T) {
	layers, accuracy := excerpt(t)
	for _, f := range []struct{ path, have, want string }{
		{"data/layers.csv", layersCSV, layers},
		{"data/accuracy.csv", accuracyCSV, accuracy},
	} {
		if *rewrite {
			testkit.OK(t, os.WriteFile(f.path, []byte(f.want), 0o644))
			continue
		}
		if f.have != f.want {
			t.Errorf("%s is not what the published tables say; to make it again: "+
				"go test ./sched/scenario -run EmbeddedData -rewrite", f.path)
		}
	}
}

// TestDefinitions holds the scenarios against the published list, whose models
// are named in words.
func TestDefinitions(t *testing.T) {
	b := testkit.Must(os.ReadFile(filepath.Join(published(t), "scenarios.json")))(t)
	var doc struct {
		Paper map[string]struct {
			Hardware []string `json:"hw"`
			Models   any      `json:"models"`
		} `json:"terastal_table2"`
		XRBench map[string]map[string]float64 `json:"xrbench_repo"`
	}
	testkit.OK(t, json.Unmarshal(b, &doc))
	table := map[string]string{"FBNet-C": "GE_FBNet_C", "Hand S/P": "HT_hand_graph_cnn_half", "Sp2Dense*": "sp2dense",
		"MobileNetV2-SSD*": "mobilenetv2_ssd", "ResNet50*": "resnet50", "VGG11*": "vgg11", "InceptionV3*": "inceptionv3",
		"Swin-Tiny*": "swin_tiny"}
	want := map[string]map[string]task{}
	omitted := map[string]bool{}
	hardware := map[string][]string{}
	for name, s := range doc.Paper {
		models, ok := s.Models.(map[string]any)
		if !ok {
			omitted["paper/"+name] = true
			continue
		}
		want["paper/"+name] = map[string]task{}
		for m, rate := range models {
			want["paper/"+name][table[m]] = task{model: table[m], rate: rate.(float64)}
		}
		for _, h := range s.Hardware {
			hardware["paper/"+name] = append(hardware["paper/"+name], h[:2])
		}
	}
	dependency := regexp.MustCompile(`^(\w+) \((?:data )?dep (?:on )?(\w+)(?:, p=([\d.]+))?\)$`)
	for name, models := range doc.XRBench {
		tasks := map[string]task{}
		for m, rate := range models {
			x := task{model: m, rate: rate}
			if d := dependency.FindStringSubmatch(m); d != nil {
				x.model, x.probability = d[1], 1
				if d[3] != "" {
					x.probability, _ = strconv.ParseFloat(d[3], 64)
				}
				for other := range models {
					if strings.HasPrefix(other, d[2]+"_") {
						x.parent = other
					}
				}
			}
			tasks[x.model] = x
		}
		want["xrbench/"+name] = tasks
	}
	have := map[string]map[string]task{}
	for _, d := range definitions() {
		have[d.name] = map[string]task{}
		for _, x := range d.tasks {
			have[d.name][x.model] = x
		}
		if !slices.Equal(d.published, hardware[d.name]) {
			t.Errorf("%s: hardware %v, published %v", d.name, d.published, hardware[d.name])
		}
	}
	if !reflect.DeepEqual(have, want) {
		t.Errorf("scenarios\n%v\npublished\n%v", have, want)
	}
	for _, o := range Missing() {
		if !omitted[o.Name] {
			t.Errorf("%s is not missing", o.Name)
		}
		delete(omitted, o.Name)
	}
	if len(omitted) > 0 {
		t.Errorf("missing without saying so: %v", omitted)
	}
}
