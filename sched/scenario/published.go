package scenario

// definition is a scenario before it is put on hardware.
type definition struct {
	name string
	// published names the hardware it was published for; none for XRBench's, which do not fix it.
	published []string
	// usual is the hardware of the name without one.
	usual        string
	source, note string
	tasks        []task
}

// task is a model at a rate. With a parent, the rate is nominal: it gives the deadline only.
type task struct {
	model       string
	rate        float64 // per second
	parent      string
	probability float64
}

const (
	fromPaper = "arXiv 2606.06818 (RTCSA 2026); models and rates from a third party's reconstruction, " +
		"layer variants and accuracies from the authors' layer-variant repository, latencies from the XRBench " +
		"edition of the MAESTRO cost model"
	fromXRBench = "XRBench's repository; latencies from its edition of the MAESTRO cost model"
	smallSwin   = "Swin-Tiny is the export without its token dimension"
	stockModels = "FBNet-C and the hand model are XRBench's GE_FBNet_C and HT_hand_graph_cnn_half, without variants"
	noVariants  = "no layer variants"
	overloaded  = noVariants + "; demand exceeds the fluid capacity of both platforms, " +
		"and DE_midas_v21_small cannot meet its deadline even alone"
	slowHRViT = noVariants + "; on 4K SS_HRViT_b1 cannot meet its deadline even alone"
)

// definitions returns every scenario, in order of name.
func definitions() []definition {
	return []definition{
		{"paper/ar_social", []string{"4K", "6K"}, "6K", fromPaper, stockModels, []task{
			{model: "GE_FBNet_C", rate: 60},
			{model: "HT_hand_graph_cnn_half", rate: 30},
			{model: "sp2dense", rate: 30},
			{model: "mobilenetv2_ssd", rate: 30},
		}},
		{"paper/mcv_heavy", []string{"6K"}, "6K", fromPaper, smallSwin, []task{
			{model: "mobilenetv2_ssd", rate: 60},
			{model: "resnet50", rate: 30},
			{model: "vgg11", rate: 30},
			{model: "inceptionv3", rate: 15},
			{model: "swin_tiny", rate: 30},
		}},
		{"paper/mcv_light", []string{"4K"}, "4K", fromPaper, smallSwin, []task{
			{model: "mobilenetv2_ssd", rate: 45},
			{model: "resnet50", rate: 15},
			{model: "vgg11", rate: 15},
			{model: "inceptionv3", rate: 15},
			{model: "swin_tiny", rate: 10},
		}},
		{"xrbench/AR_Assistant", nil, "6K", fromXRBench, overloaded + "; nor can SS_HRViT_b1 on 4K", []task{
			{model: "KD_res8_narrow", rate: 3},
			{model: "ASR_EM_24L", rate: 3, parent: "KD_res8_narrow", probability: 0.5},
			{model: "SS_HRViT_b1", rate: 10},
			{model: "DE_midas_v21_small", rate: 30},
			{model: "PD_Plane_RCNN_Quarter", rate: 15},
			{model: "OD_D2go_FasterRCNN", rate: 10},
		}},
		{"xrbench/AR_gaming", nil, "6K", fromXRBench, overloaded, []task{
			{model: "HT_hand_graph_cnn_half", rate: 45},
			{model: "DE_midas_v21_small", rate: 30},
			{model: "PD_Plane_RCNN_Quarter", rate: 15},
		}},
		{"xrbench/VR_gaming", nil, "6K", fromXRBench, noVariants, []task{
			{model: "ES_RITNet", rate: 60},
			{model: "GE_FBNet_C", rate: 60, parent: "ES_RITNet", probability: 1},
			{model: "HT_hand_graph_cnn_half", rate: 45},
		}},
		{"xrbench/outdoor_activity_A", nil, "6K", fromXRBench, slowHRViT, []task{
			{model: "KD_res8_narrow", rate: 3},
			{model: "ASR_EM_24L", rate: 3, parent: "KD_res8_narrow", probability: 0.2},
			{model: "SS_HRViT_b1", rate: 10},
			{model: "OD_D2go_FasterRCNN", rate: 30},
		}},
		{"xrbench/outdoor_activity_B", nil, "6K", fromXRBench, noVariants, []task{
			{model: "KD_res8_narrow", rate: 3},
			{model: "ASR_EM_24L", rate: 3, parent: "KD_res8_narrow", probability: 0.2},
			{model: "D2go_FastRCNN", rate: 30},
		}},
		{"xrbench/social_interaction_A", nil, "6K", fromXRBench, noVariants, []task{
			{model: "ES_RITNet", rate: 60},
			{model: "GE_FBNet_C", rate: 60, parent: "ES_RITNet", probability: 1},
			{model: "DR_RGBd_200", rate: 30},
			{model: "HT_hand_graph_cnn_half", rate: 30},
		}},
		{"xrbench/social_interaction_B", nil, "6K", fromXRBench, noVariants, []task{
			{model: "ES_RITNet", rate: 60},
			{model: "GE_FBNet_C", rate: 60, parent: "ES_RITNet", probability: 1},
			{model: "AS_ED_TCN", rate: 30},
		}},
	}
}

// Omission is a published scenario that this package does not have.
type Omission struct {
	Name   string `json:"name"`
	Reason string `json:"reason"`
}

// Missing returns the published scenarios left out. All of XRBench's are here: every model of theirs is in the tables.
func Missing() []Omission {
	const reason = "its models and rates are in no source we have"
	return []Omission{
		{"paper/ar_gaming_heavy", reason},
		{"paper/ar_gaming_light", reason},
	}
}
