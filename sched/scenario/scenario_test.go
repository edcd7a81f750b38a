package scenario

import (
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/fluid"
	"github.com/terastal/terastal/sched/traffic"
)

func load(t *testing.T, name string) *Scenario {
	t.Helper()
	return testkit.Must(Load(name))(t)
}

// published are the names of scenarios that were not measured.
func published() []string {
	return slices.DeleteFunc(Names(), func(name string) bool { return strings.HasPrefix(name, Measured) })
}

func compile(t *testing.T, s *Scenario) *sched.Tables {
	t.Helper()
	return testkit.Must(sched.Compile(s.System))(t)
}

func model(t *testing.T, s *Scenario, name string) *sched.Model {
	t.Helper()
	i := slices.IndexFunc(s.System.Models, func(m sched.Model) bool { return m.Name == name })
	if i < 0 {
		t.Fatalf("%s has no model %s", s.Name, name)
	}
	return &s.System.Models[i]
}

// Sums of the published tables, made with awk: layers, and the nanoseconds of all
// originals on WS 2048, OS 1024 and OS 2048.
var sums = map[string]struct {
	layers, ws2048, os1024, os2048 int
	variants                       int
}{
	"resnet50":               {66, 22815327, 44413371, 38205011, 7},
	"vgg11":                  {11, 16383133, 41457664, 26619904, 4},
	"inceptionv3":            {95, 24179187, 61122976, 43800704, 3},
	"mobilenetv2_ssd":        {86, 9355909, 13872004, 11791420, 4},
	"swin_tiny":              {77, 816992, 2966400, 2364288, 4},
	"sp2dense":               {39, 10105280, 20905806, 14663668, 4},
	"GE_FBNet_C":             {63, 7072695, 14982952, 13936888, 0},
	"HT_hand_graph_cnn_half": {224, 16368698, 35409054, 29773572, 0},
	"ASR_EM_24L":             {120, 150994944, 150994944, 94371840, 0},
	"AS_ED_TCN":              {4, 2769248, 1422400, 734400, 0},
	"D2go_FastRCNN":          {138, 15499333, 25825363, 22551857, 0},
	"OD_D2go_FasterRCNN":     {138, 15499333, 25825363, 22551857, 0},
	"DE_midas_v21_small":     {92, 36808116, 90476500, 82060838, 0},
	"DR_RGBd_200":            {34, 31293856, 69560320, 50279840, 0},
	"ES_RITNet":              {42, 2788736, 5265920, 3318592, 0},
	"KD_res8_narrow":         {8, 72728, 90480, 45240, 0},
	"PD_Plane_RCNN_Quarter":  {153, 40755950, 83687104, 73349632, 0},
	"SS_HRViT_b1":            {423, 115815792, 141645408, 97418784, 0},
}

func TestEveryScenarioCompiles(t *testing.T) {
	if n := len(published()); n != 20 {
		t.Errorf("%d published scenarios, want 10 on 2 platforms", n)
	}
	for _, name := range Names() {
		s := load(t, name)
		tables := compile(t, s)
		if s.Name != name {
			t.Errorf("%s is called %s", name, s.Name)
		}
		if s.Source == "" || s.Note == "" {
			t.Errorf("%s does not say where it comes from", name)
		}
		if len(s.Rates) != len(s.System.Models) {
			t.Fatalf("%s: %d rates for %d models", name, len(s.Rates), len(s.System.Models))
		}
		for i, m := range s.System.Models {
			if (m.Trigger != nil) != (s.Rates[i] == 0) {
				t.Errorf("%s: %s has trigger %v and rate %v", name, m.Name, m.Trigger, s.Rates[i])
			}
			if r := s.Rates[i]; r > 0 && !strings.HasPrefix(name, Measured) && m.Deadline != time.Duration(1e9/r) {
				t.Errorf("%s: %s has deadline %v at %v releases per second", name, m.Name, m.Deadline, r)
			}
		}
		traffic := traffic.Config{Rates: s.Rates, Duration: time.Second, Seed: 1}
		if _, err := traffic.Arrivals(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := fluid.CapacityOf(tables, fluid.EffectiveRates(tables, s.Rates)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSums(t *testing.T) {
	seen := map[string]bool{}
	for _, name := range published() {
		s := load(t, name)
		for i := range s.System.Models {
			m := &s.System.Models[i]
			want := sums[m.Name]
			seen[m.Name] = true
			os := want.os1024
			if s.System.Accelerators[1] == "os2048a" {
				os = want.os2048
			}
			latency := make([]int, 3)
			variants := 0
			for l := range m.Layers {
				for k, c := range m.Layers[l].Implementations[0].Latency {
					latency[k] += int(c)
				}
				variants += len(m.Layers[l].Implementations) - 1
			}
			if !slices.Equal(latency, []int{want.ws2048, os, os}) {
				t.Errorf("%s: %s takes %v ns, want %v", name, m.Name, latency, []int{want.ws2048, os, os})
			}
			if len(m.Layers) != want.layers || len(m.Energy) != want.layers || variants != want.variants ||
				m.Variants != want.variants {
				t.Errorf("%s: %s has %d layers, %d energies, %d variants in layers and %d in all, want %d and %d",
					name, m.Name, len(m.Layers), len(m.Energy), variants, m.Variants, want.layers, want.variants)
			}
		}
	}
	if len(seen) != len(sums) {
		t.Errorf("models seen: %v", seen)
	}
}

// TestPenalty is the published observation that variants were made for: output-stationary arrays take 2 to 8 times as
// long for the late layers of VGG-11.
func TestPenalty(t *testing.T) {
	for _, name := range []string{"paper/mcv_light", "paper/mcv_heavy"} {
		vgg := model(t, load(t, name), "vgg11")
		want := []float64{2, 2, 7.98, 7.98, 7.87}
		for i, w := range want {
			l := vgg.Layers[6+i]
			c := l.Implementations[0].Latency
			if x := float64(c[1]) / float64(c[0]); math.Abs(x-w) > 0.01 {
				t.Errorf("%s: %s takes %.3f times as long on OS, want %v", name, l.Name, x, w)
			}
		}
		classifier := vgg.Layers[8]
		if classifier.Name != "classifier_0" || classifier.Implementations[1].Name != "d2s2" {
			t.Fatalf("layer 8 is %+v", classifier)
		}
		if c := classifier.Implementations[1]; c.Variant != 3 ||
			!slices.Equal(c.Latency, []time.Duration{100352, 802816, 802816}) {
			t.Errorf("variant of classifier_0: %+v", c)
		}
		if e := vgg.Energy[8]; !slices.Equal(e, []float64{7504090, 15246600, 15246600}) {
			t.Errorf("energy of classifier_0: %v", e)
		}
	}
}

// TestVariantsAreFaster: every variant beats its original on every accelerator.
func TestVariantsAreFaster(t *testing.T) {
	for _, name := range published() {
		for _, m := range load(t, name).System.Models {
			for _, l := range m.Layers {
				for _, im := range l.Implementations[1:] {
					for k, c := range im.Latency {
						if c >= l.Implementations[0].Latency[k] {
							t.Errorf("%s: %s: variant %d of %s takes %v on accelerator %d, the original %v",
								name, m.Name, im.Variant, l.Name, c, k, l.Implementations[0].Latency[k])
						}
					}
				}
			}
		}
	}
}

func TestValidSets(t *testing.T) {
	heavy, social := load(t, "paper/mcv_heavy"), load(t, "paper/ar_social")
	for _, c := range []struct {
		s     *Scenario
		model string
		sets  int // of the published evaluation, the empty one included
	}{
		{heavy, "mobilenetv2_ssd", 4}, {heavy, "resnet50", 52}, {heavy, "vgg11", 3}, {heavy, "inceptionv3", 4},
		{heavy, "swin_tiny", 16},
		{social, "sp2dense", 13}, {social, "mobilenetv2_ssd", 4}, {social, "GE_FBNet_C", 0},
		{social, "HT_hand_graph_cnn_half", 0},
	} {
		m := model(t, c.s, c.model)
		if len(m.Valid) != c.sets || len(m.Accuracy) != c.sets {
			t.Errorf("%s has %d valid sets and %d accuracies, want %d", c.model, len(m.Valid), len(m.Accuracy), c.sets)
		}
		for i, a := range m.Accuracy {
			if a < DefaultTheta || a > 1 {
				t.Errorf("%s: set %b has accuracy %v", c.model, m.Valid[i], a)
			}
		}
		sorted := slices.Sorted(slices.Values(m.Valid))
		if len(slices.Compact(sorted)) != len(m.Valid) {
			t.Errorf("%s: a valid set occurs twice", c.model)
		}
	}
	// VGG-11: features.16 or classifier.0, at 0.93005 and 0.92452, never both.
	vgg := model(t, heavy, "vgg11")
	if !slices.Equal(vgg.Valid, []sched.VariantSet{0, 1, 4}) ||
		!slices.Equal(vgg.Accuracy, []float64{1, 0.93005, 0.92452}) {
		t.Errorf("vgg11: valid %b, accuracy %v", vgg.Valid, vgg.Accuracy)
	}
}

func TestTheta(t *testing.T) {
	for _, theta := range []float64{-0.1, 1.1, math.NaN()} {
		if _, err := LoadTheta("paper/mcv_heavy", theta); err == nil {
			t.Errorf("theta %v was taken", theta)
		}
	}
	sets := func(theta float64, name string) []sched.VariantSet {
		s := testkit.Must(LoadTheta("paper/mcv_heavy", theta))(t)
		compile(t, s)
		return model(t, s, name).Valid
	}
	if all, none := sets(0, "resnet50"), sets(1, "resnet50"); len(all) != 128 || len(none) != 1 {
		t.Errorf("resnet50: %d sets are valid at 0 and %d at 1, want 128 and 1", len(all), len(none))
	}
	// At 0.948 Swin-Tiny's variants 1 and 3 need the company of 2: 0.94138 alone, 0.94809 together.
	swin := sets(0.948, "swin_tiny")
	if slices.Contains(swin, 0b101) || !slices.Contains(swin, 0b111) {
		t.Errorf("swin_tiny at 0.948: %b", swin)
	}
	// At 0.9, as published, all sets are monotone.
	for _, name := range published() {
		for _, m := range load(t, name).System.Models {
			for _, set := range m.Valid {
				for v := range m.Variants {
					if less := set &^ (1 << v); !slices.Contains(m.Valid, less) {
						t.Errorf("%s: %s: %b is valid, %b is not", name, m.Name, set, less)
					}
				}
			}
		}
	}
}

// TestCapacity holds the tables against prices and sustainable scales that were
// computed from the same published tables by other code, with a compass search.
func TestCapacity(t *testing.T) {
	for _, c := range []struct {
		name  string
		price [3]float64
		scale float64
	}{
		{"paper/mcv_light", [3]float64{.52, .24, .24}, 1.61},
		{"paper/mcv_heavy", [3]float64{.47, .27, .27}, 1.27},
		{"paper/mcv_heavy@4K", [3]float64{.52, .24, .24}, 1.04},
		{"paper/ar_social@4K", [3]float64{.51, .25, .25}, 1.58},
		{"paper/ar_social@6K", [3]float64{.47, .26, .26}, 1.86},
	} {
		s := load(t, c.name)
		capacity := testkit.Must(fluid.CapacityOf(compile(t, s), s.Rates))(t)
		if math.Abs(capacity.Scale-c.scale) > 0.01 {
			t.Errorf("%s sustains %.4f times its rates, want %v", c.name, capacity.Scale, c.scale)
		}
		for k, p := range capacity.Prices {
			if math.Abs(p-c.price[k]) > 0.015 {
				t.Errorf("%s: prices %.4f, want %v", c.name, capacity.Prices, c.price)
				break
			}
		}
	}
}

// TestInfeasible holds the notes against the tables: which models cannot meet
// their deadline with every layer where it is fastest, and what is overloaded.
func TestInfeasible(t *testing.T) {
	want := map[string][]string{
		"xrbench/AR_Assistant@4K":       {"SS_HRViT_b1", "DE_midas_v21_small"},
		"xrbench/AR_Assistant@6K":       {"DE_midas_v21_small"},
		"xrbench/AR_gaming@4K":          {"DE_midas_v21_small"},
		"xrbench/AR_gaming@6K":          {"DE_midas_v21_small"},
		"xrbench/outdoor_activity_A@4K": {"SS_HRViT_b1"},
	}
	for _, name := range published() {
		s := load(t, name)
		tables := compile(t, s)
		var infeasible []string
		for i, m := range s.System.Models {
			if tables.Budgets(i).Infeasible {
				infeasible = append(infeasible, m.Name)
			}
		}
		if !slices.Equal(infeasible, want[name]) {
			t.Errorf("%s: infeasible are %v, want %v", name, infeasible, want[name])
		}
		capacity := testkit.Must(fluid.CapacityOf(tables, fluid.EffectiveRates(tables, s.Rates)))(t)
		if overload := strings.HasPrefix(name, "xrbench/AR_"); (capacity.Scale < 1) != overload {
			t.Errorf("%s sustains %.3f times its rates", name, capacity.Scale)
		}
		for _, m := range infeasible {
			if !strings.Contains(s.Note, m) {
				t.Errorf("%s: the note does not mention %s: %s", name, m, s.Note)
			}
		}
	}
}

func TestTriggers(t *testing.T) {
	s := load(t, "xrbench/AR_Assistant")
	asr := model(t, s, "ASR_EM_24L")
	if asr.Trigger == nil || *asr.Trigger != (sched.Trigger{Parent: "KD_res8_narrow", Probability: 0.5}) ||
		asr.Deadline != time.Second/3 {
		t.Errorf("ASR_EM_24L: trigger %+v, deadline %v", asr.Trigger, asr.Deadline)
	}
	if !slices.Equal(s.Rates, []float64{3, 0, 10, 30, 15, 10}) {
		t.Errorf("rates %v", s.Rates)
	}
}

func TestNames(t *testing.T) {
	for alias, name := range map[string]string{
		"paper/mcv_heavy@6K":              "paper/mcv_heavy",
		"paper/mcv_light@4K":              "paper/mcv_light",
		"paper/ar_social":                 "paper/ar_social@6K",
		"xrbench/VR_gaming":               "xrbench/VR_gaming@6K",
		"xrbench/social_interaction_A@4K": "xrbench/social_interaction_A@4K",
	} {
		if s := load(t, alias); s.Name != name {
			t.Errorf("%s is %s, want %s", alias, s.Name, name)
		}
	}
	for _, name := range []string{"", "mcv_heavy", "paper/mcv_heavy@8K", "paper/mcv_heavy@", "paper/MCV_heavy"} {
		testkit.Refused(Load(name))(t, ErrUnknown, "paper/mcv_heavy@4K, ")
	}
	for _, o := range Missing() {
		testkit.Refused(Load(o.Name))(t, ErrUnknown, o.Reason)
	}
}

// TestLoadsShareNothing: a caller may change what it loaded.
func TestLoadsShareNothing(t *testing.T) {
	a, untouched := load(t, "paper/mcv_light"), load(t, "paper/mcv_light")
	for i := range a.System.Models {
		m := &a.System.Models[i]
		m.Valid[0], m.Accuracy[0], m.Energy[0][0], m.Layers[0].Implementations[0].Latency[0] = 1, 0, 0, 1
		a.Rates[i] = 0
	}
	a.System.Accelerators[0] = ""
	if !reflect.DeepEqual(load(t, "paper/mcv_light"), untouched) {
		t.Error("changing one scenario changed another")
	}
}

func FuzzParse(f *testing.F) {
	layers, accuracy := strings.Join(layerColumns, ",")+"\n", strings.Join(accuracyColumns, ",")+"\n"
	f.Add(layers+"m,a,,,1,2,3,1,1,1\nm,a,1,2,1,1,1,,,\nm,b,,,1,2,3,1,1,1\n", accuracy+"m,1,0.95\n", 0.9)
	f.Add(layers+"m,a,1,2,1,1,1,,,\n", accuracy+"m,1+1,2\n", 0.9)
	f.Add(layers+"m,a,,,1,2,3,1,1,1\n", accuracy+"n,1,1\n", 0.9)
	f.Add(layers+"m,a,21,x,1,2,3,1,1,1\n", accuracy+"m,64,1\n", 0.9)
	f.Fuzz(func(t *testing.T, layers, accuracy string, theta float64) {
		networks, err := parse(layers, accuracy)
		if err != nil {
			return
		}
		for _, n := range networks {
			m := testkit.Must(n.model(Hardware()[0].Accelerators, theta))(t)
			for _, v := range m.Valid {
				if v>>n.variants != 0 {
					t.Errorf("%b of %d variants is valid", v, n.variants)
				}
			}
			if len(m.Layers) == 0 || len(m.Layers) != len(m.Energy) || len(m.Valid) != len(m.Accuracy) {
				t.Errorf("%d layers, %d energies, %d valid sets, %d accuracies", len(m.Layers), len(m.Energy), len(m.Valid),
					len(m.Accuracy))
			}
		}
	})
}
