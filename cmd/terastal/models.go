package main

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"
	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/cobra"

	"github.com/terastal/terastal/cmd/terastal/internal/config"
	"github.com/terastal/terastal/cmd/terastal/internal/table"
	"github.com/terastal/terastal/internal/ort"
	"github.com/terastal/terastal/models"
	"github.com/terastal/terastal/models/zoo"
)

// zooPrefix marks a model reference that names a built-in network.
const zooPrefix = "zoo:"

// zooSeed draws the weights of built-in networks that are opened by name.
const zooSeed = 1

// openModel opens what a user calls a model: "zoo:NAME" or the path of an ONNX
// file. ONNX Runtime must be started.
func openModel(ref string, o models.Options) (*models.Model, error) {
	name, builtIn := strings.CutPrefix(ref, zooPrefix)
	if !builtIn {
		return models.Load(ref, o)
	}
	data, err := zoo.Build(name, zooSeed)
	if err != nil {
		return nil, usageError{err}
	}
	return models.Parse(name, data, o)
}

func newModels(s *streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "models",
		Short: "List, build, inspect and split ONNX models",
		Example: `  terastal models list
  terastal models inspect zoo:resnet50
  terastal models split model.onnx --granularity block --verify`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newModelsList(s), newModelsBuild(s), newModelsInspect(s), newModelsSplit(s))
	return cmd
}

// modelFlags are what every verb that opens a model takes.
type modelFlags struct {
	granularity string
	dims        map[string]int64
}

func (f *modelFlags) bind(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.granularity, "granularity", "op", "where to cut: op, block, model, auto:DURATION or cuts:TENSOR,TENSOR")
	cmd.Flags().StringToInt64Var(&f.dims, "dim", nil, "size of a symbolic input dimension, as NAME=SIZE (default 1; repeatable)")
}

// open starts ONNX Runtime, opens the model and splits it.
func (f *modelFlags) open(s *streams, ref string) (*models.Model, []models.Layer, error) {
	g, err := models.ParseGranularity(f.granularity)
	if err != nil {
		return nil, nil, usagef("--granularity: %w", err)
	}
	for name, size := range f.dims {
		if size < 1 {
			return nil, nil, usagef("--dim %s=%d: the size must be 1 or more", name, size)
		}
	}
	if _, err := ort.Start(s.ort); err != nil {
		return nil, nil, err
	}
	if s.models != "" && !strings.HasPrefix(ref, zooPrefix) {
		if ref, err = new(config.Config).Path(ref, s.models); err != nil {
			return nil, nil, usageError{err}
		}
	}
	m, err := openModel(ref, models.Options{Dims: f.dims})
	if errors.Is(err, models.ErrDims) {
		err = usagef("--dim: %w", err)
	}
	if err != nil {
		return nil, nil, err
	}
	layers, err := m.Split(g)
	if errors.Is(err, models.ErrGranularity) {
		err = usageError{err}
	}
	return m, layers, err
}

func newModelsList(s *streams) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the built-in networks",
		Example: `  terastal models list
  terastal models list --json`,
		Args: noArgs,
		RunE: func(*cobra.Command, []string) error { return runModelsList(s) },
	}
}

type listedNetwork struct {
	Name       string  `json:"name"`
	Task       string  `json:"task"`
	Input      []int64 `json:"input"`
	Parameters int64   `json:"parameters"`
	MACs       int64   `json:"macs"`
	Published  bool    `json:"published"` // the counts come from a publication
	Trained    bool    `json:"trained"`
	Accuracy   float64 `json:"accuracy,omitempty"` // of trained networks, on their test images
	Source     string  `json:"source"`
}

func countedBy(published bool) string {
	if published {
		return "published"
	}
	return "our own"
}

func weightsOf(a zoo.Architecture) (weights, accuracy string) {
	if a.Trained {
		return "trained", fmt.Sprintf("%.2f %%", 100*a.Accuracy)
	}
	return "random", ""
}

func runModelsList(s *streams) error {
	list := []listedNetwork{}
	t := table.New("network", "task", "input", ">parameters", ">MACs", "counts are", "weights", ">accuracy")
	for _, name := range zoo.Names() {
		a, err := zoo.Info(name)
		if err != nil {
			return err
		}
		list = append(list, listedNetwork{a.Name, a.Task, a.Input, a.Parameters, a.MACs, a.Published, a.Trained, a.Accuracy, a.Source})
		weights, accuracy := weightsOf(a)
		t.Add(zooPrefix+a.Name, a.Task, dims(a.Input), count(a.Parameters), count(a.MACs), countedBy(a.Published), weights, accuracy)
	}
	t.Text(s.text())
	return s.document(map[string]any{"networks": list})
}

func newModelsBuild(s *streams) *cobra.Command {
	var out string
	var seed uint64
	cmd := &cobra.Command{
		Use:   "build NAME",
		Short: "Write a built-in network as an ONNX file with weights drawn from a seed (glyph networks: trained)",
		Example: `  terastal models build resnet50
  terastal models build ds_cnn_kws --seed 7 --out kws.onnx`,
		Args: exactArgs("NAME"),
		RunE: func(_ *cobra.Command, args []string) error {
			return runModelsBuild(s, strings.TrimPrefix(args[0], zooPrefix), seed, out)
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "file to write (default: NAME.onnx in the zoo folder of $TERASTAL_CACHE, or of the user's cache folder)")
	cmd.Flags().Uint64Var(&seed, "seed", zooSeed, "seed of the weights")
	return cmd
}

func runModelsBuild(s *streams, name string, seed uint64, out string) error {
	data, err := zoo.Build(name, seed)
	if err != nil {
		return usageError{err}
	}
	if out == "" {
		cache, err := cacheFolder()
		if err != nil {
			return err
		}
		out = filepath.Join(cache, "zoo", name+".onnx")
		if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
			return fmt.Errorf("cache folder: %w; set TERASTAL_CACHE to a folder you can write", err)
		}
	}
	if err := renameio.WriteFile(out, data, 0o644); err != nil {
		return fmt.Errorf("writing %s: %w", out, err)
	}
	fmt.Fprintf(s.text(), "%s: %d bytes\n", out, len(data))
	return s.document(map[string]any{"file": out, "bytes": len(data), "seed": seed})
}

// cacheFolder is where built models are kept: $TERASTAL_CACHE, or terastal in
// the user's cache folder.
func cacheFolder() (string, error) {
	if dir := os.Getenv("TERASTAL_CACHE"); dir != "" {
		return dir, nil
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("no cache folder (%w): set TERASTAL_CACHE", err)
	}
	return filepath.Join(dir, "terastal"), nil
}

func newModelsInspect(s *streams) *cobra.Command {
	var f modelFlags
	cmd := &cobra.Command{
		Use:   "inspect FILE|zoo:NAME",
		Short: "Show a model's layers: operators, work, weights and boundary tensors",
		Example: `  terastal models inspect zoo:mobilenetv2
  terastal models inspect model.onnx --granularity block --json
  terastal models inspect speech.onnx --dim sequence=576`,
		Args: exactArgs("FILE|zoo:NAME"),
		RunE: func(_ *cobra.Command, args []string) error { return runModelsInspect(s, f, args[0]) },
	}
	f.bind(cmd)
	return cmd
}

type tensorDocument struct {
	Name  string  `json:"name"`
	Type  string  `json:"type"`
	Shape []int64 `json:"shape"`
	Bytes int64   `json:"bytes"`
}

type layerDocument struct {
	Index      int              `json:"index"`
	Name       string           `json:"name"`
	Ops        []string         `json:"ops"`
	MACs       int64            `json:"macs"`
	Parameters int64            `json:"parameters"`
	Inputs     []tensorDocument `json:"inputs"`
	Outputs    []tensorDocument `json:"outputs"`
	SHA256     string           `json:"sha256"`
}

type modelDocument struct {
	Model       string           `json:"model"`
	SHA256      string           `json:"sha256"`
	Granularity string           `json:"granularity"`
	Parameters  int64            `json:"parameters"`
	MACs        int64            `json:"macs"`
	Inputs      []tensorDocument `json:"inputs"`
	Outputs     []tensorDocument `json:"outputs"`
	BufferBytes int64            `json:"buffer_bytes"`
	Note        string           `json:"note,omitempty"` // why it has hardly any layers
	Layers      []layerDocument  `json:"layers"`
}

func describeTensors(tensors []models.Tensor) []tensorDocument {
	list := make([]tensorDocument, len(tensors))
	for i, t := range tensors {
		list[i] = tensorDocument{t.Name, t.Type.String(), t.Shape, t.Bytes()}
	}
	return list
}

func runModelsInspect(s *streams, f modelFlags, ref string) error {
	m, layers, err := f.open(s, ref)
	if err != nil {
		return err
	}
	forms, err := m.Forms(layers, models.Portable)
	if err != nil {
		return err
	}
	_, buffers := models.Buffers(models.Chain(forms), 64)
	doc := modelDocument{
		Model: m.Name(), SHA256: m.SHA256(), Granularity: f.granularity,
		Parameters: m.Parameters(), MACs: m.MACs(), BufferBytes: buffers, Note: m.Note(),
		Inputs: describeTensors(m.Inputs()), Outputs: describeTensors(m.Outputs()),
		Layers: make([]layerDocument, len(layers)),
	}
	t := table.New(">#", "layer", "ops", ">MACs", ">parameters", "in", ">bytes", "out", ">bytes")
	for i, l := range layers {
		in, out := describeTensors(l.Inputs), describeTensors(l.Outputs)
		doc.Layers[i] = layerDocument{l.Index, l.Name, l.Ops, l.MACs, l.Parameters, in, out, l.SHA256}
		t.Add(
			l.Index, text.Snip(l.Name, 32, "~"), text.Snip(tally(l.Ops), 40, "~"), count(l.MACs), count(l.Parameters),
			text.Snip(shapes(l.Inputs), 32, "~"), count(total(in)), text.Snip(shapes(l.Outputs), 32, "~"), count(total(out)),
		)
	}
	fmt.Fprintf(s.text(), "%s: %s parameters, %s MACs, %d layers at %s, %s bytes of buffers between them\n",
		m.Name(), count(m.Parameters()), count(m.MACs()), len(layers), f.granularity, count(buffers))
	fmt.Fprintf(s.text(), "inputs %v, outputs %v\n", m.Inputs(), m.Outputs())
	if doc.Note != "" {
		fmt.Fprintln(s.text(), doc.Note)
	}
	fmt.Fprintln(s.text())
	t.Text(s.text())
	return s.document(doc)
}

func newModelsSplit(s *streams) *cobra.Command {
	var f modelFlags
	var o splitOptions
	cmd := &cobra.Command{
		Use:   "split FILE|zoo:NAME",
		Short: "Cut a model into layers, write them, verify that their chain equals the whole",
		Long: `Cut a model into layers. --out writes each layer as an ONNX model of its own;
their weights lie in one file beside them, weights.bin, each stored once.
--verify runs the whole model and the chain of layers on the same inputs on one
CPU core, compares every output, and reports how much longer the chain takes
("ratio"). With --optimization none, outputs must be bit-identical. Inputs are
random unless --input names a NumPy file.`,
		Example: `  terastal models split model.onnx --granularity op --verify --json
  terastal models split zoo:resnet18 --granularity block --out layers/
  terastal models split model.onnx --granularity auto:200us --verify --input image=cat.npy
  terastal models split model.onnx --granularity cuts:relu1,pool2 --out layers/`,
		Args: exactArgs("FILE|zoo:NAME"),
		RunE: func(_ *cobra.Command, args []string) error { return runModelsSplit(s, f, o, args[0]) },
	}
	f.bind(cmd)
	cmd.Flags().StringVar(&o.out, "out", "", "folder to write the layers to, as 000.onnx, 001.onnx, ... and weights.bin")
	cmd.Flags().BoolVar(&o.verify, "verify", false, "compare the chain of layers with the whole model")
	cmd.Flags().StringVar(&o.optimization, "optimization", "none", "optimisation level of the comparison: none, basic, extended, all")
	cmd.Flags().StringArrayVar(&o.inputs, "input", nil, "array for --verify to run on, as NAME=FILE.npy, or FILE.npy for a single input (repeatable; default random)")
	cmd.Flags().Uint64Var(&o.seed, "seed", 1, "seed of the random inputs")
	return cmd
}

type splitOptions struct {
	out          string
	verify       bool
	optimization string
	inputs       []string
	seed         uint64
}

// splitDocument is the result of models split; what --verify adds is absent without it.
type splitDocument struct {
	Model        string   `json:"model"`
	Granularity  string   `json:"granularity"`
	Layers       int      `json:"layers"`
	Note         string   `json:"note,omitempty"` // why there are hardly any
	Files        []string `json:"files,omitempty"`
	Optimization string   `json:"optimization,omitempty"`
	Identical    *bool    `json:"identical,omitempty"`
	MaxAbsDiff   *float64 `json:"max_abs_diff,omitempty"` // absent when it is no number
	MaxRelDiff   *float64 `json:"max_rel_diff,omitempty"`
	Argmax       *bool    `json:"same_argmax,omitempty"`
	WholeMS      float64  `json:"whole_ms,omitempty"`
	ChainedMS    float64  `json:"chained_ms,omitempty"`
	Ratio        float64  `json:"ratio,omitempty"`
}

func runModelsSplit(s *streams, f modelFlags, o splitOptions, ref string) error {
	if err := (ort.Config{Optimization: o.optimization}).Validate(); err != nil {
		return usagef("--optimization: %w", err)
	}
	if len(o.inputs) > 0 && !o.verify {
		return usagef("--input is what --verify runs on: add --verify")
	}
	m, layers, err := f.open(s, ref)
	if err != nil {
		return err
	}
	inputs, err := inputData(m, o.inputs, o.seed)
	if err != nil {
		return err
	}
	doc := splitDocument{Model: m.Name(), Granularity: f.granularity, Layers: len(layers), Note: m.Note()}
	fmt.Fprintf(s.text(), "%s: %d layers at %s\n", m.Name(), len(layers), f.granularity)
	if doc.Note != "" {
		fmt.Fprintln(s.text(), doc.Note)
	}
	if o.out != "" {
		if doc.Files, err = models.WriteLayers(o.out, layers); err != nil {
			return err
		}
		fmt.Fprintf(s.text(), "%s: %d files\n", o.out, len(doc.Files))
	}
	if !o.verify {
		return s.document(doc)
	}
	v, err := models.Verify(m, layers, inputs, o.optimization)
	if err != nil {
		return err
	}
	doc.Optimization, doc.Identical, doc.Argmax = o.optimization, &v.Identical, &v.Argmax
	doc.MaxAbsDiff, doc.MaxRelDiff = finite(v.MaxAbsDiff), finite(v.MaxRelDiff)
	doc.WholeMS, doc.ChainedMS, doc.Ratio = v.WholeMS, v.ChainedMS, v.Ratio
	verdict := "bit-identical"
	if !v.Identical {
		verdict = fmt.Sprintf("within %.3g (relative %.3g, same largest element: %t)", v.MaxAbsDiff, v.MaxRelDiff, v.Argmax)
	}
	fmt.Fprintf(s.text(), "outputs of the chain: %s; whole %.3f ms, chained %.3f ms, ratio %.3f\n", verdict, v.WholeMS, v.ChainedMS, v.Ratio)
	if err := s.document(doc); err != nil {
		return err
	}
	if !v.Holds(o.optimization) {
		return fmt.Errorf("model %s: the chain of %d layers is not the whole model: outputs differ by %.3g (relative %.3g)", m.Name(), len(layers), v.MaxAbsDiff, v.MaxRelDiff)
	}
	return nil
}

// finite is x where JSON can hold it, nil where it is infinite or NaN.
func finite(x float64) *float64 {
	if math.IsInf(x, 0) || math.IsNaN(x) {
		return nil
	}
	return &x
}

// count writes a large number with its SI prefix: 25.6M.
func count(n int64) string {
	for _, unit := range []struct {
		size   int64
		suffix string
	}{{1e9, "G"}, {1e6, "M"}, {1e3, "k"}} {
		if n >= unit.size {
			return fmt.Sprintf("%.3g%s", float64(n)/float64(unit.size), unit.suffix)
		}
	}
	return fmt.Sprint(n)
}

func dims(shape []int64) string {
	return strings.ReplaceAll(strings.Trim(fmt.Sprint(shape), "[]"), " ", "x")
}

func shapes(tensors []models.Tensor) string {
	var list []string
	for _, t := range tensors {
		list = append(list, dims(t.Shape))
	}
	return strings.Join(list, " ")
}

// tally writes operators in order of first use, with how often each occurs: Conv Relu*2.
func tally(ops []string) string {
	times := make(map[string]int)
	var order []string
	for _, op := range ops {
		if times[op]++; times[op] == 1 {
			order = append(order, op)
		}
	}
	for i, op := range order {
		if times[op] > 1 {
			order[i] = fmt.Sprintf("%s*%d", op, times[op])
		}
	}
	return strings.Join(order, " ")
}

func total(tensors []tensorDocument) int64 {
	sum := int64(0)
	for _, t := range tensors {
		sum += t.Bytes
	}
	return sum
}
