package scenario

import (
	"cmp"
	"encoding/json"
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

// TestDefinitions holds the scenarios against the published list, whose models are named in words.
func TestDefinitions(t *testing.T) {
	folder := cmp.Or(os.Getenv("TERASTAL_SHARED"), "../../../shared")
	b, err := os.ReadFile(filepath.Join(folder, "paper", "scenarios.json"))
	if err != nil {
		t.Skipf("without the published list: %v", err)
	}
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
