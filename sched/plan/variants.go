package plan

import (
	"time"
)

// Variants is what was found for one model: the variants in use, whose files lie
// next to the plan, the accuracy of their combinations, and what was left out.
type Variants struct {
	Model string `json:"model"`
	// SHA256 and Granularity say which model and layers they are for.
	SHA256      string `json:"sha256"`
	Granularity string `json:"granularity"`
	// Off is true when the plan does not use them: they are kept for one that may.
	Off bool `json:"off,omitempty"`
	// Accelerators names the columns of latencies.
	Accelerators []string `json:"accelerators"`
	// Theta is the least normalised accuracy of a combination that may be used.
	Theta float64 `json:"theta"`
	// Proof is the accuracy of the combinations of the chosen variants.
	Proof
	// Chosen are the variants in use, in order of layers: variant i+1 is the i-th.
	Chosen []Variant `json:"chosen"`
	// Candidates are all that were considered, those in use among them.
	Candidates []Variant `json:"candidates,omitempty"`
	// Bytes is the size of the model's weights, against which that of the chosen variants is overhead.
	Bytes int64 `json:"model_bytes"`
	// Notes say where no variant could be had, and why.
	Notes []string `json:"notes,omitempty"`
}

// Variant is an implementation of a layer that is no original.
type Variant struct {
	Layer      int    `json:"layer"`
	LayerName  string `json:"layer_name"`
	Family     string `json:"family"`
	Parameters string `json:"parameters"`
	// Name is the implementation's in profiles and task systems, File where its ONNX model lies, relative to the plan,
	// SHA256 the file's. Without a file it is the layer's own model with other options, and SHA256 that model's.
	Name   string `json:"name,omitempty"`
	File   string `json:"file,omitempty"`
	SHA256 string `json:"sha256,omitempty"`
	// Bytes is the size of the weights that it adds.
	Bytes int64 `json:"bytes"`
	MACs  int64 `json:"macs"`
	// Provider is the only execution provider that runs it, where its accuracy is that of one; empty for any. Options are
	// the provider's for this layer.
	Provider string            `json:"provider,omitempty"`
	Options  map[string]string `json:"options,omitempty"`
	// Promise and Error are the squared error of the layer's outputs as a share
	// of their variance: as the fit expects, and as measured.
	Promise float64 `json:"promised_error,omitempty"`
	Error   float64 `json:"error,omitempty"`
	// Alone is the normalised accuracy of the model with this variant only.
	Alone float64 `json:"accuracy_alone,omitempty"`
	// Latency and Original are the medians by accelerator, measured in turn; 0 where it cannot run.
	Latency  []time.Duration `json:"latency_ns"`
	Original []time.Duration `json:"original_ns"`
	// Wanted are the accelerators that it was chosen for.
	Wanted []string `json:"wanted,omitempty"`
	// Frontier is true where no other candidate is both faster and closer, on an accelerator where variants are wanted.
	Frontier bool `json:"frontier,omitempty"`
	// Refused says why it must not be used.
	Refused string `json:"refused,omitempty"`
}

// Overhead is the weights of the chosen variants as a share of the model's.
func (v *Variants) Overhead() float64 {
	sum := int64(0)
	for i := range v.Chosen {
		sum += v.Chosen[i].Bytes
	}
	if v.Bytes == 0 {
		return 0
	}
	return float64(sum) / float64(v.Bytes)
}

// Gain is how many times faster than the original it is on an accelerator; 0 where one of the two was not measured.
func (x *Variant) Gain(accelerator int) float64 {
	if accelerator >= len(x.Latency) || accelerator >= len(x.Original) || x.Latency[accelerator] <= 0 {
		return 0
	}
	return float64(x.Original[accelerator]) / float64(x.Latency[accelerator])
}
